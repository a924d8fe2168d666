"""L1 and generalised IoU losses of box sequences.

Shape letters: Q queries, T frames, N matched instances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vislab.ops.boxes import box_cxcywh_to_xyxy, generalized_box_iou
from vislab.structures import Targets


def box_losses(
    boxes: Tensor, targets: list[Targets], matches: list[tuple[Tensor, Tensor]], num_instances: float
) -> tuple[Tensor, Tensor]:
    """L1 and GIoU loss, averaged over the frames where an instance is present and divided by the instances.

    Absent frames have no box and are left out (released SeqFormer regresses them to zero boxes; DeVIS' paper and
    ours leave them out). boxes: (B, Q, T, 4) cxcywh in [0, 1]. Returns two scalars.
    """
    predicted = torch.cat([clip[queries] for clip, (queries, _) in zip(boxes, matches, strict=True)])
    wanted = torch.cat([target.boxes[chosen] for target, (_, chosen) in zip(targets, matches, strict=True)])
    present = torch.cat([target.present[chosen] for target, (_, chosen) in zip(targets, matches, strict=True)])
    weight = present / present.sum(-1, keepdim=True).clamp(min=1)
    l1 = (predicted - wanted).abs().sum(-1)
    giou = generalized_box_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(wanted))
    return (l1 * weight).sum() / num_instances, ((1 - giou) * weight).sum() / num_instances
