"""Sequence-level Hungarian matching of queries to instances (SeqFormer; Carion et al., DETR).

Shape letters: B batch, Q queries, T frames, K classes, N instances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vislab.ops.boxes import box_cxcywh_to_xyxy, generalized_box_iou_pairwise
from vislab.structures import ModelOutput, Targets

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0


@dataclass(frozen=True)
class MatcherConfig:
    """Cost weights. box_power: norm of the box cost over all frames' coordinates together, 2 in the released
    SeqFormer (models/matcher.py:63-68) although papers call it L1."""

    class_cost: float = 2.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    box_power: float = 2.0


def assign(cost: Tensor) -> tuple[Tensor, Tensor]:
    """One-to-one assignment of least cost (Hungarian algorithm): (Q, N) -> query_index, instance_index.

    Both are (min(Q, N),) int64, on the device of the cost. A non-finite cost is an error of training (NaN loss),
    reported by the caller's checks; it is replaced here so that the assignment still ends.
    """
    finite = np.nan_to_num(cost.cpu().numpy(), nan=1e6, posinf=1e6, neginf=-1e6)
    rows, columns = linear_sum_assignment(finite)
    return torch.as_tensor(rows, device=cost.device), torch.as_tensor(columns, device=cost.device)


def focal_class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss of a positive minus that of a negative, per query and instance: (..., K), (N,) -> (..., N)."""
    probability = logits.sigmoid()
    positive = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + 1e-8).log()
    negative = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + 1e-8).log()
    return (positive - negative)[..., labels]


def sequence_box_costs(boxes: Tensor, target: Targets, power: float) -> tuple[Tensor, Tensor]:
    """Box distance and negative GIoU over the frames where the instance is present.

    boxes: (Q, T, 4) cxcywh. Returns two (Q, N): the distance over all present coordinates, scaled as if all T frames
    were present, and the mean of -GIoU.
    """
    present = target.present.float()
    share = present.mean(-1).clamp(min=1e-6)
    difference = (boxes[:, None] - target.boxes).abs() * present[None, ..., None]
    distance = difference.flatten(2).norm(p=power, dim=-1) / share ** (1 / power)
    giou = torch.stack(
        [
            generalized_box_iou_pairwise(box_cxcywh_to_xyxy(frame), box_cxcywh_to_xyxy(target_frame))
            for frame, target_frame in zip(boxes.unbind(1), target.boxes.unbind(1), strict=True)
        ],
        dim=-1,
    )
    return distance, -(giou * present).sum(-1) / present.sum(-1).clamp(min=1)


@torch.no_grad()
def match_sequences(output: ModelOutput, targets: list[Targets], config: MatcherConfig) -> list[tuple[Tensor, Tensor]]:
    """One-to-one assignment of least cost for each clip.

    Returns, per clip, (query_index, instance_index), as `assign` does.
    """
    matches = []
    for logits, boxes, target in zip(output.pred_logits, output.pred_boxes, targets, strict=True):
        distance, negative_giou = sequence_box_costs(boxes.float(), target, config.box_power)
        cost = (
            config.class_cost * focal_class_cost(logits.float(), target.labels)
            + config.box_cost * distance
            + config.giou_cost * negative_giou
        )
        matches.append(assign(cost))
    return matches
