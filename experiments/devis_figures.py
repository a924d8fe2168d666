"""DeVIS' figures from a trained model: where the queries of a clip look (Fig. 2), and how their reference points come
together from layer to layer (Fig. A.5).

    python experiments/plot_figures.py devis Fig2 --scale tiny

Shape letters: T frames, Q queries per frame, F source frames, M heads, L levels, P points, H W size.
"""

from __future__ import annotations

import numpy as np
import torch
from figures import PaperFigure, Setting
from matplotlib.figure import Figure
from torch import Tensor

from vislab.blocks.attended_points import AttendedPoints
from vislab.models.devis import Devis
from vislab.ops.boxes import box_cxcywh_to_xyxy, generalized_box_iou_pairwise
from vislab.report.figures.sampling_figures import FrameSamples, QueryView, draw_references, draw_samples
from vislab.structures import Batch

_QUERIES_OF_FRAMES = 3  # Fig. 2 shows the queries of the first three frames
_THIRD_FRAME = 2  # Fig. A.5 those of the third
_SAME_OBJECT = 0.5  # generalised IoU above which two trajectories show one object


def sampling_points(setting: Setting) -> Figure:
    """Fig. 2: the last decoder layer's sampling points of the two surest trajectories; a row for each of the queries
    that they have in the first three frames, in all of which they look at every frame of the clip."""
    model, frames, batch, layers = _attended(setting)
    rows = []
    for number, trajectory in enumerate(_surest(model, batch, 2), start=1):
        for t in range(min(_QUERIES_OF_FRAMES, len(frames))):
            title = f"object {number}, query of frame {t + 1}"
            rows.append(_view(title, layers[-1], t, trajectory, batch, frames.shape[1:3]))
    return draw_samples(frames, rows)


def reference_points(setting: Setting) -> Figure:
    """Fig. A.5: reference points of the surest trajectory's query of the third frame, where the first, a middle and the
    last decoder layer start from. The paper's caption says layers 1, 2 and 6, its text the first, third and last."""
    model, frames, batch, layers = _attended(setting)
    (trajectory,) = _surest(model, batch, 1)
    t = min(_THIRD_FRAME, len(frames) - 1)
    chosen = sorted({0, (len(layers) - 1) // 2, len(layers) - 1})
    return draw_references(
        frames,
        [
            _view(f"decoder layer {layer + 1} of {len(layers)}", layers[layer], t, trajectory, batch, frames.shape[1:3])
            for layer in chosen
        ],
    )


def _attended(setting: Setting) -> tuple[Devis, np.ndarray, Batch, list[AttendedPoints]]:
    model = setting.model
    assert isinstance(model, Devis)
    frames, batch = setting.clip(model.config.clip_length)
    return model, frames, batch, model.attended_points(batch.images, batch.padding_mask)


@torch.no_grad()
def _surest(model: Devis, batch: Batch, count: int) -> list[int]:
    """The trajectories of highest class score, one for each object as far as there are."""
    output = model(batch.images, batch.padding_mask)
    scores = output.class_scores()[0].amax(-1)
    boxes = box_cxcywh_to_xyxy(output.pred_boxes[0])
    order = scores.argsort(descending=True).tolist()
    chosen: list[int] = []
    for trajectory in order:
        overlaps = [_overlap(boxes[trajectory], boxes[other]) for other in chosen]
        if all(overlap < _SAME_OBJECT for overlap in overlaps):
            chosen.append(trajectory)
    rest = [trajectory for trajectory in order if trajectory not in chosen]
    return (chosen + rest)[:count]


def _overlap(boxes: Tensor, others: Tensor) -> float:
    """Mean over the frames of the generalised IoU of (T, 4) boxes, x1 y1 x2 y2."""
    return float(generalized_box_iou_pairwise(boxes, others).diagonal().mean())


def _view(title: str, layer: AttendedPoints, t: int, trajectory: int, batch: Batch, size: tuple[int, ...]) -> QueryView:
    """What the trajectory's query of frame t samples in one layer, in the order of the frames; all of a frame's heads,
    levels and points together. size: H, W of the frames that are drawn."""
    padded = torch.tensor([batch.images.shape[-1], batch.images.shape[-2]])  # x, y
    resized = batch.image_sizes[0].flip(0).cpu()
    scale = (padded * torch.tensor([size[1], size[0]]) / resized).double()
    table = layer.frames[t].tolist()
    heads = layer.weights.shape[3]
    samples: dict[int, FrameSamples] = {}
    for slot, frame in enumerate(table):
        points = layer.locations[0, t, trajectory, :, slot].double().cpu() * scale
        weights = layer.weights[0, t, trajectory, :, slot].double().cpu() / heads
        reference = layer.reference[0, t, trajectory, slot].double().cpu()
        reference = reference * scale.repeat(len(reference) // 2)
        kept = weights.flatten() > 0
        samples[frame] = FrameSamples(
            reference.numpy(), points.reshape(-1, 2)[kept].numpy(), weights.flatten()[kept].numpy()
        )
    return QueryView(title, t, tuple(samples[frame] for frame in range(len(samples))))


FIGURES: dict[str, PaperFigure] = {
    "Fig2": PaperFigure("sampling points of two objects' queries over a clip, with reference points", sampling_points),
    "A5": PaperFigure("reference points of one query over the decoder layers", reference_points),
}
