"""Box formats and the generalised intersection over union. Boxes are (..., 4), in any unit."""

from __future__ import annotations

import torch
from torch import Tensor


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(centre x, centre y, width, height) to (left, top, right, bottom); (..., 4) to (..., 4)."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(left, top, right, bottom) to (centre x, centre y, width, height); (..., 4) to (..., 4)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor, *, eps: float = 0.0) -> Tensor:
    """GIoU, Rezatofighi et al. (arXiv 1902.09630) Algorithm 1: (..., 4) and (..., 4), xyxy, broadcast, to (...).

    Negative widths and heights count as zero. `eps` is added to both parts of both quotients, as in acaelles97/DeVIS
    src/util/box_ops.py:34-43 (1e-6); with 0 two boxes without area have an IoU of 0, and two identical ones of them a
    GIoU of 0. Values lie in [-1, 1].
    """
    low1, high1 = boxes1[..., :2], torch.maximum(boxes1[..., :2], boxes1[..., 2:])
    low2, high2 = boxes2[..., :2], torch.maximum(boxes2[..., :2], boxes2[..., 2:])
    overlap = _area((torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0))
    hull = _area(torch.maximum(high1, high2) - torch.minimum(low1, low2))
    union = _area(high1 - low1) + _area(high2 - low2) - overlap
    return _ratio(overlap, union, eps) - _ratio(hull - union, hull, eps)


def generalized_box_iou_pairwise(boxes1: Tensor, boxes2: Tensor, *, eps: float = 0.0) -> Tensor:
    """GIoU (arXiv 1902.09630) of all pairs: (..., N, 4) and (..., M, 4), xyxy, to (..., N, M)."""
    return generalized_box_iou(boxes1.unsqueeze(-2), boxes2.unsqueeze(-3), eps=eps)


def _area(size: Tensor) -> Tensor:
    return size[..., 0] * size[..., 1]


def _ratio(part: Tensor, whole: Tensor, eps: float) -> Tensor:
    # Where there is no area the quotient is 0/0; dividing by 1 there keeps its gradient finite too.
    return (part + eps) / (whole + eps if eps else torch.where(whole > 0, whole, 1.0))


def box_iou_pairwise(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of all pairs: (..., N, 4) and (..., M, 4), xyxy, to (..., N, M), in [0, 1]; 0 where neither has an area."""
    first, second = boxes1.unsqueeze(-2), boxes2.unsqueeze(-3)
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    overlap = _area((high - low).clamp(min=0))
    union = sum(_area((boxes[..., 2:] - boxes[..., :2]).clamp(min=0)) for boxes in (first, second)) - overlap
    return _ratio(overlap, union, 0.0)
