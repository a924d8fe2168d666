"""Random predictions and targets, and the matching cost written out as loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vislab.structures import ModelOutput, Targets


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_boxes(*shape: int, seed: int = 0) -> Tensor:
    """(..., 4) cxcywh, inside the image."""
    size = 0.1 + 0.3 * noise(*shape, 2, seed=seed).sigmoid()
    return torch.cat((0.3 + 0.4 * noise(*shape, 2, seed=seed + 1).sigmoid(), size), dim=-1)


def random_targets(
    instances: int, frames: int, classes: int, seed: int, present: Sequence[Sequence[int]] | None = None,
    size: tuple[int, int] = (16, 24),
) -> Targets:  # fmt: skip
    """Targets; boxes and masks of absent frames are zero, as the data room writes them."""
    generator = torch.Generator().manual_seed(seed)
    visible = torch.ones(instances, frames, dtype=torch.bool)
    if present is not None:
        visible = torch.tensor(present, dtype=torch.bool).view(instances, frames)
    masks = torch.rand(instances, frames, *size, generator=generator) < 0.4
    return Targets(
        labels=torch.randint(0, classes, (instances,), generator=generator),
        boxes=random_boxes(instances, frames, seed=seed) * visible[..., None],
        masks=masks & visible[..., None, None],
        present=visible,
        track_ids=torch.arange(instances),
    )


def random_output(
    batch: int, queries: int, frames: int, classes: int, seed: int = 0, layers: int = 1, size: tuple[int, int] = (4, 6),
    frame_logits: bool = False,
) -> ModelOutput:  # fmt: skip
    """Every tensor is a leaf that asks for its gradient; mask logits lie in `output.pred_masks.logits`."""
    logits = (batch, queries, frames, classes) if frame_logits else (batch, queries, classes)
    outputs = []
    for layer in range(layers):
        first = 100 * seed + 10 * layer
        outputs.append(
            ModelOutput(
                pred_logits=noise(*logits, seed=first).requires_grad_(),
                pred_boxes=random_boxes(batch, queries, frames, seed=first + 1).requires_grad_(),
                pred_masks=StoredMasks(noise(batch, queries, frames, *size, seed=first + 3)),
                frame_queries=noise(batch, frames, queries, 8, seed=first + 4).requires_grad_(),
            )
        )
    outputs[-1].aux_outputs = outputs[:-1]
    return outputs[-1]


class StoredMasks:
    """A mask predictor that looks its answers up."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.requires_grad_()

    def __call__(self, batch_index: int, query_index: Tensor) -> Tensor:
        return self.logits[batch_index, query_index]


def corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    """cxcywh to xyxy."""
    x, y, width, height = box
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def slow_giou(first: Sequence[float], second: Sequence[float], eps: float = 0.0) -> float:
    """GIoU of two cxcywh boxes, with positive sizes or a positive eps."""
    a, b = corners(first), corners(second)
    overlap = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = first[2] * first[3] + second[2] * second[3] - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return (overlap + eps) / (union + eps) - (hull - union + eps) / (hull + eps)


def slow_class_cost(logit: float) -> float:
    """Focal loss of a positive minus that of a negative."""
    probability = 1 / (1 + math.exp(-logit))
    positive = -0.25 * (1 - probability) ** 2 * math.log(probability + 1e-8)
    return positive + 0.75 * probability**2 * math.log(1 - probability + 1e-8)


def least_cost(cost: list[list[float]]) -> float:
    """The smallest sum of any one-to-one assignment of Q queries and N instances, by trying all of them."""
    queries, instances = len(cost), len(cost[0])
    if queries >= instances:
        choices = itertools.permutations(range(queries), instances)
        return min(sum(cost[q][n] for n, q in enumerate(choice)) for choice in choices)
    choices = itertools.permutations(range(instances), queries)
    return min(sum(cost[q][n] for q, n in enumerate(choice)) for choice in choices)


def slow_cost(logits: Tensor, boxes: Tensor, target: Targets, instance: int, config) -> float:
    """Matching cost of one query, (K,) logits and (T, 4) boxes, and one instance."""
    frames = [t for t in range(len(boxes)) if target.present[instance, t]]
    pairs = [(boxes[t].tolist(), target.boxes[instance, t].tolist()) for t in frames]
    power = config.box_power
    distance = sum(abs(x - y) ** power for box, wanted in pairs for x, y in zip(box, wanted, strict=True))
    if frames:
        distance *= len(boxes) / len(frames)
    giou = sum(slow_giou(*pair) for pair in pairs) / max(1, len(pairs))
    class_cost = config.class_cost * slow_class_cost(logits[int(target.labels[instance])].item())
    return class_cost + config.box_cost * distance ** (1 / power) - config.giou_cost * giou


def slow_focal(logit: float, target: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    right = probability if target else 1 - probability
    return -(0.25 if target else 0.75) * (1 - right) ** 2 * math.log(right)
