"""The criterion of RefineVIS (Eq. 1): frame-level, association and refinement losses, and those of denoising queries.

Shape letters: B clips, T frames, F = B * T frames, Q queries, N instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vislab.losses.association import AssociationLossConfig, association_terms, reference_pairs
from vislab.losses.denoising import association_denoising, denoising_tracklets, frame_matches
from vislab.losses.frame_losses import (
    MaskLossConfig,
    Matches,
    Tracklets,
    frame_level_losses,
    frame_targets,
    refined_losses,
)
from vislab.losses.frame_predictions import ClipPredictions, FramePredictions
from vislab.losses.optimal_transport import OptimalTransportConfig, transport
from vislab.ops.boxes import box_cxcywh_to_xyxy, box_iou_pairwise
from vislab.shared_batch import normaliser
from vislab.structures import Targets


@dataclass(frozen=True)
class RefineVISCriterionConfig:
    """Weights and conventions. The paper prints no weights inside Eq. 2 and 5: MaskDINO's are taken.

    masks: the kind of mask loss. frame_losses: frames whose frame-level losses count, the first of each clip (section
    4.1) or all. auxiliary: losses after every decoder layer. matching: of queries to instances, several to one.
    association: None learns no association. refine_weight: of Eq. 5. min_iou: in training a tracklet misses the frames
    in which its query overlaps the truth less; the paper wants a low threshold and does not give it.
    association_denoising, temporal_denoising: section 3.5, where the model has denoising queries.
    """

    class_weight: float = 4.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    masks: MaskLossConfig = MaskLossConfig()
    frame_losses: Literal["first", "all"] = "first"
    auxiliary: bool = True
    matching: OptimalTransportConfig = OptimalTransportConfig()
    association: AssociationLossConfig | None = AssociationLossConfig()
    refine_weight: float = 1.0
    min_iou: float = 0.1
    association_denoising: bool = True
    temporal_denoising: bool = True

    def build(self) -> RefineVISCriterion:
        return RefineVISCriterion(self)


class Assignment(NamedTuple):
    """Queries of one frame and all N instances of its clip. matches: pairs of query_index and instance_index. best:
    (N,) int64, the cheapest query of each instance, -1 where it has none or is absent."""

    matches: Matches
    best: Tensor


class RefineVISCriterion(nn.Module):
    """Eq. 1, an unweighted sum of its three parts. Tracklets are formed by the ground truth."""

    def __init__(self, config: RefineVISCriterionConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, output: ClipPredictions, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        """Weighted scalar losses by name; those of an earlier decoder layer i carry the suffix "/aux<i>".

        "class", "box", "giou", "mask", "dice"; "association" and "reid_aux"; "refined_class", "refined_mask",
        "refined_dice". With denoising queries the same, but for reid_aux, with "denoising_" before them.
        """
        truth = frame_targets(targets)
        losses = self._frame_level(output, truth, mask_stride)
        assigned = [self._assign(output.frames, frame, target) for frame, target in enumerate(truth)]
        if self.config.association is not None:
            losses |= self._association(output, truth, assigned, self.config.association)
        if output.refine is not None:
            losses |= self._refinement(output, targets, assigned, mask_stride)
        return losses

    def _frame_level(self, output: ClipPredictions, truth: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        """Eq. 2 of all decoder layers, of matching queries and of denoising ones."""
        config, frames, noised = self.config, output.frames, output.frames.denoising_queries
        rows = range(0, len(truth), output.num_frames if config.frame_losses == "first" else 1)
        chosen = [truth[row] for row in rows]
        losses: dict[str, Tensor] = {}
        for suffix, layer in self._layers(frames):
            matches = [self._assign(layer, row, truth[row]).matches for row in rows]
            terms = frame_level_losses(layer, rows, chosen, matches, None, config.masks, mask_stride)
            losses |= {name + suffix: loss for name, loss in self._weighted(terms).items()}
        if frames.denoising is not None and noised is not None:
            matches = [frame_matches(noised, row) for row in rows]
            for suffix, layer in self._layers(frames.denoising):
                terms = frame_level_losses(layer, rows, chosen, matches, noised.valid, config.masks, mask_stride)
                losses |= {f"denoising_{name}{suffix}": loss for name, loss in self._weighted(terms).items()}
        return losses

    def _layers(self, last: FramePredictions) -> list[tuple[str, FramePredictions]]:
        early = last.aux_outputs if self.config.auxiliary else []
        return [("", last), *((f"/aux{index}", layer) for index, layer in enumerate(early))]

    def _weighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        config = self.config
        weights = {"class": config.class_weight, "box": config.box_weight, "giou": config.giou_weight}
        weights |= {"mask": config.mask_weight, "dice": config.dice_weight}
        return {name: weights[name] * term for name, term in terms.items()}

    def _assign(self, layer: FramePredictions, frame: int, target: Targets) -> Assignment:
        """target: of this frame alone, with all instances of the clip."""
        present = target.present[:, 0].nonzero()[:, 0]
        boxes, labels = target.boxes[present, 0], target.labels[present]
        found = transport(layer.logits[frame], layer.boxes[frame], labels, boxes, self.config.matching)
        queries, rows = found.matches
        best = torch.full_like(target.labels, -1)
        best[present] = found.best
        return Assignment((queries, present[rows]), best)

    def _association(
        self, output: ClipPredictions, truth: list[Targets], assigned: list[Assignment], config: AssociationLossConfig
    ) -> dict[str, Tensor]:
        """Eq. 3: the key frame is the first of a clip, every other one a reference frame. Means over the objects."""
        frames, count = output.frames, 0
        assert frames.association is not None
        weights = {"association": config.weight}
        if config.reid_aux is not None:
            weights["reid_aux"] = config.reid_aux.weight
        sums = {name: frames.association.sum() * 0.0 for name in weights}
        for key, other in _frame_pairs(len(truth), output.num_frames):
            both = ((assigned[key].best >= 0) & (assigned[other].best >= 0)).nonzero()[:, 0]
            there = truth[other].present[:, 0].nonzero()[:, 0]
            values = frames.logits[other], frames.boxes[other], truth[other].labels[there], truth[other].boxes[there, 0]
            positives, negatives = (pairs[torch.isin(there, both)] for pairs in reference_pairs(*values, config))
            keys = frames.association[key, assigned[key].best[both]]
            terms = association_terms(keys, frames.association[other], positives, negatives, config.reid_aux)
            sums = {name: total + terms[name] for name, total in sums.items()}
            count += len(both)
        divisor = normaliser(count)
        losses = {name: weight * sums[name] / divisor for name, weight in weights.items()}
        if self.config.association_denoising and frames.denoising is not None:
            losses["denoising_association"] = config.weight * _denoising_association(output, len(truth))
        return losses

    def _refinement(
        self, output: ClipPredictions, targets: list[Targets], assigned: list[Assignment], mask_stride: int
    ) -> dict[str, Tensor]:
        """Eq. 5, divided by the pairs of tracklet and frame."""
        frames, length = output.frames, output.num_frames
        noised, groups = frames.denoising_queries, {"refined_": (frames, self._tracklets(output, targets, assigned))}
        if self.config.temporal_denoising and frames.denoising is not None and noised is not None:
            found = [Tracklets(*denoising_tracklets(noised, clip, length)) for clip in range(len(targets))]
            groups["denoising_refined_"] = frames.denoising, found
        losses: dict[str, Tensor] = {}
        for prefix, (values, tracklets) in groups.items():
            sums = {name: values.embeddings.sum() * 0.0 for name in ("class", "mask", "dice")}
            seeds = iter(self.config.masks.seeds(sum(len(mine.instance) > 0 for mine in tracklets)))
            for clip, (mine, target) in enumerate(zip(tracklets, targets, strict=True)):
                if len(mine.instance):
                    where = clip * length, output.frame_numbers[clip]
                    assert output.refine is not None
                    terms = refined_losses(
                        values, *where, mine, target, output.refine, self.config.masks, mask_stride, next(seeds)
                    )
                    sums = {name: total + terms[name] for name, total in sums.items()}
            cells = normaliser(sum(mine.query_index.numel() for mine in tracklets))
            weighted = self._weighted({name: total / cells for name, total in sums.items()})
            losses |= {prefix + name: self.config.refine_weight * loss for name, loss in weighted.items()}
        return losses

    def _tracklets(
        self, output: ClipPredictions, targets: list[Targets], assigned: list[Assignment]
    ) -> list[Tracklets]:
        """One for each instance that has a query in some frame of its clip."""
        length, boxes, found = output.num_frames, output.frames.boxes.detach(), []
        for clip, target in enumerate(targets):
            columns = []
            for t in range(length):
                best = assigned[clip * length + t].best
                near = _overlap(boxes[clip * length + t, best.clamp(min=0)], target.boxes[:, t]) >= self.config.min_iou
                columns.append(best.masked_fill(~near, -1))
            query_index = torch.stack(columns, dim=1)
            some = (query_index >= 0).any(1)
            instance = some.nonzero()[:, 0]
            found.append(Tracklets(query_index[some], instance, torch.ones_like(instance, dtype=torch.bool)))
        return found


def _frame_pairs(num_frames: int, length: int) -> list[tuple[int, int]]:
    """Key and reference frame of all clips of `length` frames each."""
    return [(first, first + t) for first in range(0, num_frames, length) for t in range(1, length)]


def _overlap(boxes: Tensor, wanted: Tensor) -> Tensor:
    """IoU of boxes and wanted, (N, 4) cxcywh each, to (N,)."""
    corners = box_cxcywh_to_xyxy(boxes.float()), box_cxcywh_to_xyxy(wanted.float())
    return box_iou_pairwise(*corners).diagonal()


def _denoising_association(output: ClipPredictions, num_frames: int) -> Tensor:
    """Association CDN: mean over the positive queries of the key frames."""
    values, queries = output.frames.denoising, output.frames.denoising_queries
    assert values is not None and values.association is not None and queries is not None
    total, count = values.association.sum() * 0.0, 0
    for key, other in _frame_pairs(num_frames, output.num_frames):
        found = association_denoising(queries, key, other, values.association[key], values.association[other])
        total, count = total + found[0], count + found[1]
    return total / normaliser(count)
