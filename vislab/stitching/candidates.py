"""Which queries of a frame are detections that tracks may take (wjf5203/VNext projects/IDOL/idol/idol.py:350-366).

Shape letters: Q queries, K classes, n detections, E channels of the association embedding, h w mask size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vislab.losses.frame_predictions import FramePredictions
from vislab.ops.boxes import box_cxcywh_to_xyxy, box_iou_pairwise
from vislab.stitching.association import AssociationConfig


@dataclass(frozen=True)
class Candidates:
    """Detections of one frame, best first. query_index: (n,) int64. scores: (n,), of the best class. embeddings:
    (n, E), for association."""

    query_index: Tensor
    scores: Tensor
    embeddings: Tensor


def select_candidates(
    predictions: FramePredictions, frame: int, config: AssociationConfig, num_categories: int | None = None
) -> Candidates:
    """Detections of one frame: by score, then box NMS within each class, then mask NMS over all.

    If no query scores enough the best one is kept. num_categories: logits beyond them are not read.
    """
    assert predictions.association is not None
    scores, labels = class_scores(predictions.logits[frame], num_categories).max(-1)
    order = scores.argsort(descending=True, stable=True)
    order = order[: max(1, int((scores > config.min_score).sum()))]
    boxes = box_cxcywh_to_xyxy(predictions.boxes[frame, order].float())
    same_class = labels[order][:, None] == labels[order]
    order = order[suppress(box_iou_pairwise(boxes, boxes) * same_class, config.box_nms)]
    order = order[suppress(mask_iou(predictions.masks(frame, order)), config.mask_nms)]
    return Candidates(order, scores[order], predictions.association[frame, order])


def class_scores(logits: Tensor, num_categories: int | None = None) -> Tensor:
    """(..., K) logits to scores of the data set's categories; what is not a number scores 0."""
    return logits[..., :num_categories].float().sigmoid().nan_to_num(nan=0.0)


def mask_iou(logits: Tensor) -> Tensor:
    """IoU of all pairs of masks, logit above 0: (n, h, w) to (n, n). Two empty masks are equal: 1."""
    masks = (logits > 0).flatten(1).float()
    shared, areas = masks @ masks.T, masks.sum(1)
    return (shared + 1e-6) / (areas[:, None] + areas - shared + 1e-6)


def suppress(iou: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression: (n, n), best first, to (n,) bool, True where kept."""
    above = (iou > threshold).cpu()
    keep = torch.ones(len(iou), dtype=torch.bool)
    for index in range(len(iou)):
        if keep[index]:
            keep[index + 1 :] &= ~above[index, index + 1 :]
    return keep.to(iou.device)
