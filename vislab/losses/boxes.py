"""L1 and generalised IoU losses of box sequences.

Shape letters: B batch, Q queries, T frames, N matched instances of all clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vislab.ops.boxes import box_cxcywh_to_xyxy, generalized_box_iou
from vislab.structures import Targets


@dataclass(frozen=True)
class BoxComparisonConfig:
    """How two boxes are compared, in matching and losses alike.

    l1_format: whose differences count: of centre and size, or of the corners (hustvl/TeViT, as mmdet's Sparse R-CNN).
    giou_eps: keeps boxes without area apart from 0/0, as `generalized_box_iou` says; 1e-6 in DeVIS.
    """

    l1_format: Literal["cxcywh", "xyxy"] = "cxcywh"
    giou_eps: float = 1e-6

    def differences(self, first: Tensor, second: Tensor) -> Tensor:
        """Absolute differences of the coordinates: (..., 4) and (..., 4) cxcywh, broadcast, to (..., 4)."""
        if self.l1_format == "xyxy":
            first, second = box_cxcywh_to_xyxy(first), box_cxcywh_to_xyxy(second)
        return (first - second).abs()

    def giou(self, first: Tensor, second: Tensor) -> Tensor:
        """(..., 4) and (..., 4) cxcywh, broadcast, to (...)."""
        return generalized_box_iou(box_cxcywh_to_xyxy(first), box_cxcywh_to_xyxy(second), eps=self.giou_eps)


def box_losses(
    boxes: Tensor, targets: list[Targets], matches: list[tuple[Tensor, Tensor]], num_instances: float
) -> tuple[Tensor, Tensor]:
    """L1 and GIoU loss, averaged over the frames where an instance is present and divided by the instances.

    Absent frames have no box and are left out (released SeqFormer regresses them to zero boxes; DeVIS' paper and
    ours leave them out). boxes: (B, Q, T, 4) cxcywh in [0, 1]. Returns two scalars.
    """
    predicted, wanted, present = matched_boxes(boxes, targets, matches)
    weight = present / present.sum(-1, keepdim=True).clamp(min=1)
    l1 = (predicted - wanted).abs().sum(-1)
    giou = generalized_box_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(wanted))
    return (l1 * weight).sum() / num_instances, ((1 - giou) * weight).sum() / num_instances


def frame_box_losses(
    boxes: Tensor,
    targets: list[Targets],
    matches: list[tuple[Tensor, Tensor]],
    normaliser: float,
    *,
    absent: Literal["ignore", "regress"],
    comparison: BoxComparisonConfig,
) -> tuple[Tensor, Tensor]:
    """L1 and GIoU loss, summed over pairs of instance and frame and divided by `normaliser`.

    absent: frames without the instance are left out, or regressed to the zero box that stands in the targets.
    boxes: (B, Q, T, 4) cxcywh in [0, 1]. Returns two scalars.
    """
    predicted, wanted, present = matched_boxes(boxes, targets, matches)
    if absent == "ignore":
        predicted, wanted = predicted[present], wanted[present]
    l1 = comparison.differences(predicted, wanted).sum()
    return l1 / normaliser, (1 - comparison.giou(predicted, wanted)).sum() / normaliser


def matched_boxes(
    boxes: Tensor, targets: list[Targets], matches: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and target boxes (N, T, 4) of all matched pairs, and where the instance is present, (N, T) bool."""
    predicted = torch.cat([clip[queries] for clip, (queries, _) in zip(boxes, matches, strict=True)])
    wanted = torch.cat([target.boxes[chosen] for target, (_, chosen) in zip(targets, matches, strict=True)])
    present = torch.cat([target.present[chosen] for target, (_, chosen) in zip(targets, matches, strict=True)])
    return predicted, wanted, present
