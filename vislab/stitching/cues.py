"""Cues of clip stitching (DeVIS section 3.5): how alike tracks and new instances are in the frames they share.

Shape letters: N tracks, M detections, F frames compared, U distinct masks, h w size of mask logits, H W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vislab.stitching.clip import MASKS_AT_ONCE, ImageMasks, Observation
from vislab.stitching.config import StitchingConfig

UNION_AT_LEAST = 1e-6  # pixels (acaelles97/DeVIS src/models/matcher.py:310-321)

Row = Sequence[Observation | None]  # one instance in the F frames; None where there is nothing of it
ToImage = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Compared:
    """N instances in the F frames compared; where nothing is known of one, its score is 0 and its label -1.

    labels: (N, F) int64. scores: (N, F) float64. boxes: (N, F, 4) float64 cxcywh. has_box: (N, F) bool.
    masks: for each frame the distinct mask logits, (U, h, w) or None, and the instances' indices among them, (N,)
    int64, -1 where there is none.
    """

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    has_box: np.ndarray
    masks: list[tuple[Tensor | None, Tensor]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Compared:
        """At least one row."""
        boxes = np.array([[np.full(4, np.nan) if cell is None else cell.box for cell in row] for row in rows])
        has_box = np.isfinite(boxes).all(-1)
        return cls(
            np.array([[-1 if cell is None else cell.label for cell in row] for row in rows], np.int64),
            np.array([[0.0 if cell is None else cell.score for cell in row] for row in rows]),
            np.where(has_box[..., None], boxes, 0.0).astype(np.float64),
            has_box,
            [distinct_masks(column) for column in zip(*rows, strict=True)],
        )


def matching_cost(tracks: Compared, detections: Compared, config: StitchingConfig, masks: ImageMasks) -> np.ndarray:
    """Weighted sum of the cues, (N, M) float64; the lower, the more alike. Finite, whatever the model predicted."""
    cost = config.score_weight * score_difference(tracks, detections)
    cost -= config.class_weight * same_class(tracks, detections)
    if config.centre_weight:
        cost += config.centre_weight * centre_distance(tracks, detections)
    if config.box_weight:
        cost -= config.box_weight * box_iou(tracks, detections)
    if config.mask_weight:
        mask_iou = soft_volume_iou if config.mask_cue == "soft_volume" else binary_frame_mean_iou
        cost -= config.mask_weight * mask_iou(tracks, detections, masks)
    return cost


def same_class(tracks: Compared, detections: Compared) -> np.ndarray:
    """Share of the frames in which both have the same category, (N, M) in [0, 1]."""
    return (tracks.labels[:, None] == detections.labels).mean(-1)


def score_difference(tracks: Compared, detections: Compared) -> np.ndarray:
    """Mean over the frames of |s_i - s_j|, (N, M) in [0, 1]."""
    return np.abs(tracks.scores[:, None] - detections.scores).mean(-1)


def centre_distance(tracks: Compared, detections: Compared) -> np.ndarray:
    """Mean of |dx| and |dy| of the centres in image widths and heights, over the frames in which both have a box.

    (N, M) in [0, 1]; 1, the largest, without such a frame. acaelles97/DeVIS src/models/matcher.py:275-289.
    """
    both = tracks.has_box[:, None] & detections.has_box
    distance = np.abs(tracks.boxes[:, None, :, :2] - detections.boxes[..., :2]).mean(-1).clip(max=1)
    return np.where(both.any(-1), (distance * both).sum(-1) / both.sum(-1).clip(min=1), 1.0)


def box_iou(tracks: Compared, detections: Compared) -> np.ndarray:
    """Mean over the frames of the boxes' IoU, (N, M) in [0, 1]; 0 in frames in which one has no box."""
    low, high, area = zip(*(_corners(side.boxes) for side in (tracks, detections)), strict=True)
    overlap = np.minimum(high[0][:, None], high[1]) - np.maximum(low[0][:, None], low[1])
    shared = overlap.clip(min=0).prod(-1)
    union = area[0][:, None] + area[1] - shared
    return (shared / np.where(union > 0, union, 1)).mean(-1)


def soft_volume_iou(tracks: Compared, detections: Compared, masks: ImageMasks) -> np.ndarray:
    """sum(pq) / sum(p + q - pq) over the pixels of all frames, p and q probabilities at image size; (N, M) in [0, 1].

    acaelles97/DeVIS src/models/matcher.py:310-321.
    """
    shared, union = _overlaps(tracks, detections, masks.probabilities)
    return shared.sum(0) / union.sum(0).clip(min=UNION_AT_LEAST)


def binary_frame_mean_iou(tracks: Compared, detections: Compared, masks: ImageMasks) -> np.ndarray:
    """Mean over the frames of the IoU of the thresholded masks, 0 where both are empty; (N, M) in [0, 1].

    acaelles97/DeVIS src/models/matcher.py:291-307, options USE_BINARY_MASK_IOU and USE_FRAME_AVERAGE_IOU.
    """
    shared, union = _overlaps(tracks, detections, lambda logits: masks.binary(logits).float())
    return (shared / union.clip(min=UNION_AT_LEAST)).mean(0)


def _corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., 4) cxcywh to lower and upper corners, (..., 2) each, and areas, (...)."""
    size = boxes[..., 2:].clip(min=0)
    return boxes[..., :2] - size / 2, boxes[..., :2] + size / 2, size.prod(-1)


def _overlaps(tracks: Compared, detections: Compared, to_image: ToImage) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the pixels of pq and of p + q - pq in each frame, (F, N, M) float64 each.

    to_image: (n, h, w) logits to (n, H, W) float32. One frame is upsampled at a time.
    """
    shared = np.zeros((len(tracks.masks), len(tracks.labels), len(detections.labels)))
    sums = np.zeros_like(shared)
    for frame, ((stack1, index1), (stack2, index2)) in enumerate(zip(tracks.masks, detections.masks, strict=True)):
        products, totals1, totals2 = _products(stack1, stack2, to_image)
        shared[frame] = products[index1][:, index2].numpy()
        sums[frame] = (totals1[index1][:, None] + totals2[index2]).numpy()
    return shared, sums - shared


def _products(stack1: Tensor | None, stack2: Tensor | None, to_image: ToImage) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of pq, (U1 + 1, U2 + 1), of p, (U1 + 1,), and of q, (U2 + 1,), float64; the last of each is no mask: 0."""
    count1, count2 = (0 if stack is None else len(stack) for stack in (stack1, stack2))
    products = torch.zeros(count1 + 1, count2 + 1, dtype=torch.float64)
    totals1, totals2 = products.new_zeros(count1 + 1), products.new_zeros(count2 + 1)
    second = None if stack2 is None else to_image(stack2).flatten(1)
    if second is not None:
        totals2[:-1] = second.sum(1)
    for start in range(0, count1, MASKS_AT_ONCE):
        assert stack1 is not None
        first = to_image(stack1[start : start + MASKS_AT_ONCE]).flatten(1)
        rows = slice(start, start + len(first))
        totals1[rows] = first.sum(1)
        if second is not None:
            products[rows, :-1] = (first @ second.T).double().cpu()
    return products, totals1, totals2


def distinct_masks(column: Row) -> tuple[Tensor | None, Tensor]:
    """Mask logits of one frame's observations, each once, (U, h, w), and which one each observation has, (N,)."""
    position: dict[int, int] = {}
    stack: list[Tensor] = []
    index: list[int] = []
    for cell in column:
        if cell is None:
            index.append(-1)
            continue
        if id(cell.mask_logits) not in position:
            position[id(cell.mask_logits)] = len(stack)
            stack.append(cell.mask_logits)
        index.append(position[id(cell.mask_logits)])
    return torch.stack(stack) if stack else None, torch.tensor(index, dtype=torch.int64)
