"""Deformable attention from its definition (TAFormer Eq. 1-2): plain loops, tent-shaped bilinear weights, float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def randomise(module: nn.Module, seed: int = 0, scale: float = 0.4) -> nn.Module:
    """Fills every parameter with float64 noise, so that no zero initialisation hides an error."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale)
    return module


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def bilinear(grid: np.ndarray, x: float, y: float) -> np.ndarray:
    """grid: (H, W, D), zero outside; (x, y) in pixels, where pixel i covers [i, i + 1]."""
    height, width, _ = grid.shape
    weight_y = np.maximum(0, 1 - np.abs(y - np.arange(height) - 0.5))
    weight_x = np.maximum(0, 1 - np.abs(x - np.arange(width) - 0.5))
    return np.einsum("h,w,hwd->d", weight_y, weight_x, grid)


def sampling_point(reference: np.ndarray, offset: np.ndarray, width: int, height: int, points: int) -> tuple:
    """Reference (x, y) or (cx, cy, w, h) in [0, 1] plus an offset in pixels or in half boxes over P; in pixels."""
    if len(reference) == 2:
        return reference[0] * width + offset[0], reference[1] * height + offset[1]
    x, y = reference[:2] + offset / points * reference[2:] / 2
    return x * width, y * height


def slow_samples(
    query: Tensor, reference: Tensor, value: Tensor, shapes: list, levels: list, sources: list,
    offset_layer: nn.Linear, weight_layer: nn.Linear, points: int,
) -> np.ndarray:  # fmt: skip
    """Sum of A W' x of each head, side by side: (B, T, Q, C).

    query: (B, T, Q, C). reference: (B, T, Q, all L, 2 or 4). value: (B, T, S, M, D). levels: which are sampled.
    sources: for each frame, the list of its source frames, None where there is none.
    """
    query, reference, value = (x.detach().numpy() for x in (query, reference, value))
    batch, frames, queries, _ = query.shape
    heads, slots = value.shape[3], len(sources[0])
    layout = (batch, frames, queries, heads, slots, len(levels), points)
    offsets = linear(offset_layer, query).reshape(*layout, 2)
    logits = linear(weight_layer, query).reshape(layout)
    starts = np.cumsum([0] + [height * width for height, width in shapes])
    result = np.zeros((batch, frames, queries, heads, value.shape[-1]))
    for b, t, q, m in np.ndindex(batch, frames, queries, heads):
        present = [f for f in range(slots) if sources[t][f] is not None]
        if not present:
            continue
        exponentials = np.exp(logits[b, t, q, m][present])
        weights = exponentials / exponentials.sum()
        for index, f in enumerate(present):
            for slot, level in enumerate(levels):
                height, width = shapes[level]
                tokens = value[b, sources[t][f], starts[level] : starts[level + 1], m]
                grid = tokens.reshape(height, width, -1)
                for p in range(points):
                    offset = offsets[b, t, q, m, f, slot, p]
                    x, y = sampling_point(reference[b, t, q, level], offset, width, height, points)
                    result[b, t, q, m] += weights[index, slot, p] * bilinear(grid, x, y)
    return result.reshape(batch, frames, queries, -1)


def slow_value(layer: nn.Linear, memory: Tensor, padding: Tensor, heads: int) -> Tensor:
    """Projected tokens, zero where padded; (B, T, S, C) -> (B, T, S, M, D)."""
    value = torch.from_numpy(linear(layer, memory.numpy()))
    value[padding[:, None].expand(value.shape[:3])] = 0
    return value.reshape(*value.shape[:3], heads, -1)
