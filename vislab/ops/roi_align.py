"""RoIAlign over a feature pyramid, in plain torch.

Shape letters: N images, C channels, S sum of H*W over levels, L levels, R regions, P samples along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vislab.errors import UserError


@dataclass(frozen=True)
class Pyramid:
    """Feature maps of several strides, flattened once so that every later pooling reads the same memory.

    tokens: (N, S, C), levels one after the other, row-major. shapes: (H_l, W_l) of each level. strides: pixels of the
    input per cell of each level.
    """

    tokens: Tensor
    shapes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]

    @classmethod
    def from_levels(cls, levels: Sequence[Tensor], strides: Sequence[int]) -> Pyramid:
        """levels: L maps (N, C, H_l, W_l)."""
        if len(levels) != len(strides) or not levels:
            raise UserError(f"roi_align: {len(levels)} levels with {len(strides)} strides, expected as many, not none")
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        return cls(tokens, shapes, tuple(strides))


def level_of_boxes(boxes: Tensor, num_levels: int, finest_scale: float = 56.0) -> Tensor:
    """Pyramid level of each box: floor(log2(sqrt(area) / finest_scale)), kept within the pyramid.

    Lin et al., FPN (arXiv 1612.03144) Eq. 1, with the constant of TeViT mmdet/models/roi_heads/roi_extractors/
    single_level_roi_extractor.py. boxes: (..., 4) xyxy, pixels. Returns (...) int64.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    scale = sides.prod(-1).sqrt()
    return (scale / finest_scale + 1e-6).log2().floor().clamp(0, num_levels - 1).long()


def roi_align(
    pyramid: Pyramid, boxes: Tensor, image_index: Tensor, level_index: Tensor, size: int, sampling_ratio: int = 2
) -> Tensor:
    """RoIAlign, He et al., Mask R-CNN (arXiv 1703.06870) section 3, with half-pixel centres ("aligned").

    Every region is cut into size x size bins; a bin is the mean of sampling_ratio^2 bilinear samples. A sample more
    than one cell outside of the map counts as zero, one nearer than that as the border's value (mmcv and torchvision
    roi_align with aligned=True). Differentiable in the features and in the boxes.

    Args:
        pyramid: feature maps.
        boxes: (R, 4) xyxy in pixels of the input.
        image_index, level_index: (R,) int64, where each region is pooled from.
        size: bins along each side, at least 1. sampling_ratio: samples along each side of a bin, at least 1.

    Returns:
        (R, size * size, C), bins row-major, in the dtype of the features.
    """
    if size < 1 or sampling_ratio < 1:
        raise UserError(f"roi_align: size is {size} and sampling_ratio {sampling_ratio}, expected at least 1")
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise UserError(f"roi_align: boxes have shape {tuple(boxes.shape)}, expected (R, 4)")
    num_tokens, device = pyramid.tokens.shape[1], boxes.device
    shapes = torch.tensor(pyramid.shapes, device=device)[level_index]
    strides = torch.tensor(pyramid.strides, device=device)[level_index]
    sizes = [height * width for height, width in pyramid.shapes]
    first = torch.tensor([sum(sizes[:level]) for level in range(len(sizes))], device=device)[level_index]
    # half a cell is taken off because cell i covers [i, i + 1) of its level
    cells = torch.nan_to_num(boxes / strides[:, None] - 0.5)
    rows, row_weights = _axis_samples(cells[:, 1], cells[:, 3], shapes[:, 0], size, sampling_ratio)
    columns, column_weights = _axis_samples(cells[:, 0], cells[:, 2], shapes[:, 1], size, sampling_ratio)
    index = rows[:, :, None, :, None] * shapes[:, 1].view(-1, 1, 1, 1, 1) + columns[:, None, :, None, :]
    index = index + (first + image_index * num_tokens).view(-1, 1, 1, 1, 1)
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    # one bag per bin: a weighted sum of rows, without a copy of the sampled features
    pooled = functional.embedding_bag(
        index.flatten(3).flatten(0, 2),
        pyramid.tokens.flatten(0, 1),
        per_sample_weights=weights.flatten(3).flatten(0, 2).to(pyramid.tokens.dtype),
        mode="sum",
    )
    return pooled.view(boxes.shape[0], size * size, pyramid.tokens.shape[2])


def _axis_samples(low: Tensor, high: Tensor, length: Tensor, size: int, ratio: int) -> tuple[Tensor, Tensor]:
    """Cells that the samples along one axis read, and their weights within the bin's mean.

    low, high: (R,) ends of the regions in cells. length: (R,) cells of the axis. Returns two (R, size, 2 * ratio).
    """
    share = (torch.arange(size * ratio, device=low.device, dtype=low.dtype) + 0.5) / (size * ratio)
    position = torch.lerp(low[:, None], high[:, None], share)
    last = length[:, None] - 1
    inside = (position >= -1) & (position <= last + 1)
    position = position.clamp(min=0).minimum(last.to(position.dtype))
    before = position.detach().floor()
    after = (before + 1).minimum(last.to(position.dtype))
    fraction = position - before
    weights = torch.stack((1 - fraction, fraction), dim=-1) * inside[..., None] / ratio
    cells = torch.stack((before, after), dim=-1).long()
    return cells.view(-1, size, 2 * ratio), weights.view(-1, size, 2 * ratio)


def roi_align_map(features: Tensor, boxes: Tensor, image_index: Tensor, size: int, sampling_ratio: int = 2) -> Tensor:
    """`roi_align` on one map whose cells are the pixels that boxes are given in.

    features: (N, C, H, W). boxes: (R, 4) xyxy. Returns (R, C, size, size).
    """
    pooled = roi_align(
        Pyramid.from_levels([features], [1]), boxes, image_index, torch.zeros_like(image_index), size, sampling_ratio
    )
    return pooled.transpose(1, 2).unflatten(2, (math.isqrt(pooled.shape[1]), -1))
