"""Masks inside boxes to masks on the image and back.

Shape letters: n regions, H W image size, h w size of a region's mask.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

SMALLEST_PROBABILITY = 1e-6


def paste_masks(logits: Tensor, boxes: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Mask logits of regions, stretched over their boxes and read where the canvas has its points.

    Probabilities, not logits, are interpolated, and they fall to zero beyond the outermost cells' centres, as the
    released TeViT pastes them (mmdet/models/roi_heads/mask_heads/fcn_mask_head.py); they are turned back into logits
    afterwards, at least logit(1e-6), which is what lies outside of the box. Differentiable.

    Args:
        logits: (n, h, w).
        boxes: (n, 4) xyxy in pixels of the input.
        size: (height, width) of the canvas. stride: canvas point (i, j) is the centre of pixel
            (stride * i + stride // 2, stride * j + stride // 2) of the input.

    Returns:
        (n, height, width) logits, float32 or float64.
    """
    probability = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
    boxes = boxes.to(probability.dtype)
    rows = _tent_weights(boxes[:, 1], boxes[:, 3], size[0], logits.shape[1], stride)
    columns = _tent_weights(boxes[:, 0], boxes[:, 2], size[1], logits.shape[2], stride)
    with _full_precision(logits.device.type):
        return torch.logit(rows @ probability @ columns.transpose(1, 2), eps=SMALLEST_PROBABILITY)


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Switches autocast off, which would round probabilities and areas; the meta device has none."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _tent_weights(low: Tensor, high: Tensor, num_points: int, num_cells: int, stride: int) -> Tensor:
    """Linear interpolation between cell centres, zero outside: (n, num_points, num_cells)."""
    point = torch.arange(num_points, device=low.device, dtype=low.dtype) * stride + stride // 2 + 0.5
    extent = (high - low).clamp(min=1e-6)[:, None]
    position = (point - low[:, None]) / extent * num_cells - 0.5
    cell = torch.arange(num_cells, device=low.device, dtype=low.dtype)
    return (1 - (position[..., None] - cell).abs()).clamp(min=0)


def crop_masks(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Share of each cell of a size x size grid over a box that a mask covers; what lies outside of the image is empty.

    Exact areas. The release samples the mask bilinearly at about one point per pixel instead and calls a cell
    foreground from 0.5 on (TeViT mmdet/core/mask/structures.py, crop_and_resize).
    masks: (n, H, W) bool. boxes: (n, 4) xyxy, pixels. Returns (n, size, size) float in [0, 1].
    """
    rows = _cover_weights(boxes[:, 1], boxes[:, 3], masks.shape[1], size)
    columns = _cover_weights(boxes[:, 0], boxes[:, 2], masks.shape[2], size)
    with _full_precision(boxes.device.type):
        return (rows @ masks.to(boxes.dtype) @ columns.transpose(1, 2)).clamp(0, 1)


def _cover_weights(low: Tensor, high: Tensor, num_pixels: int, num_cells: int) -> Tensor:
    """Share of each cell that each pixel fills along one axis: (n, num_cells, num_pixels)."""
    cell = (high - low).clamp(min=1e-6)[:, None, None] / num_cells
    start = low[:, None, None] + torch.arange(num_cells, device=low.device, dtype=low.dtype)[:, None] * cell
    pixel = torch.arange(num_pixels, device=low.device, dtype=low.dtype)
    return (torch.minimum(start + cell, pixel + 1) - torch.maximum(start, pixel)).clamp(min=0) / cell
