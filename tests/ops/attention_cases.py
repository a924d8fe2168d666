"""Random inputs of deform_attn, and two other ways to compute it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor


class Case(NamedTuple):
    value: Tensor
    spatial_shapes: Tensor
    frame_index: Tensor
    sampling_locations: Tensor
    attention_weights: Tensor

    def to(self, dtype: torch.dtype) -> Case:
        return Case(*(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in self))


def make_case(
    seed: int,
    *,
    batch: int = 2,
    frames: int = 3,
    queries: int = 5,
    heads: int = 2,
    channels: int = 8,
    sources: int = 2,
    shapes: tuple[tuple[int, int], ...] = ((4, 6), (3, 2), (1, 1)),
    points: int = 3,
    dtype: torch.dtype = torch.float32,
    wild: bool = False,
) -> Case:
    """Locations from -0.3 to 1.3; `wild` mixes in borders, pixel centres, far points, NaN and infinity."""
    generator = torch.Generator().manual_seed(seed)
    grid = (batch, frames, queries, heads, sources, len(shapes), points)
    locations = torch.rand(*grid, 2, generator=generator) * 1.6 - 0.3
    if wild:
        width = shapes[0][1]
        special = [0.0, 1.0, 0.5 / width, -0.5 / width, 1 + 0.5 / width, 7.5, -1e9, 1e30, math.nan, math.inf, -math.inf]
        pick = torch.randint(len(special), locations.shape, generator=generator)
        chosen = torch.rand(locations.shape, generator=generator) < 0.3
        locations = torch.where(chosen, torch.tensor(special)[pick], locations)
    tokens = sum(height * width for height, width in shapes)
    return Case(
        torch.randn(batch, frames, tokens, heads, channels, generator=generator),
        torch.tensor(shapes),
        torch.randint(-1, frames, (frames, sources), generator=generator),
        locations,
        torch.randn(grid, generator=generator),
    ).to(dtype)


class FusedCase(NamedTuple):
    value: Tensor
    spatial_shapes: Tensor
    frame_index: Tensor
    reference_points: Tensor
    sampling_offsets: Tensor
    attention_logits: Tensor

    def to(self, dtype: torch.dtype) -> FusedCase:
        return FusedCase(*(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in self))


def make_fused_case(
    seed: int, *, size: int = 2, shared_frames: bool = False, shared_sources: bool = True, wild: bool = False, **options
) -> FusedCase:
    """References inside and a little outside, boxes if `size` is 4; `wild` makes some references NaN, infinite or far,
    some offsets whole pixels, and some logits minus infinity."""
    plain = make_case(seed, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    batch, frames, queries, _, sources, levels, _ = plain.attention_weights.shape
    grid = (batch, 1 if shared_frames else frames, queries, 1 if shared_sources else sources, levels, size)
    reference = torch.rand(grid, generator=generator) * 1.2 - 0.1
    offsets = torch.randn(plain.sampling_locations.shape, generator=generator) * 2
    logits = torch.randn(plain.attention_weights.shape, generator=generator) * 3
    if wild:
        special = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -50.0, 0.5, 0.0, 1.0])
        reference = _mixed(reference, special, 0.15, generator)
        offsets = torch.where(torch.rand(offsets.shape, generator=generator) < 0.3, offsets.round(), offsets)
        logits = _mixed(logits, torch.tensor([-math.inf, 20.0, -55.0]), 0.1, generator)
    return FusedCase(
        plain.value, plain.spatial_shapes, plain.frame_index, reference.to(plain.value), offsets.to(plain.value),
        logits.to(plain.value),
    )  # fmt: skip


def _mixed(tensor: Tensor, special: Tensor, share: float, generator: torch.Generator) -> Tensor:
    pick = torch.randint(len(special), tensor.shape, generator=generator)
    return torch.where(torch.rand(tensor.shape, generator=generator) < share, special[pick], tensor)


def outputs_and_gradients(function, case, seed: int = 0, constant: tuple[str, ...] = (), **options) -> tuple:
    """The output and the gradients of all floating inputs but the constant ones, for a random upstream gradient."""
    inputs = {
        name: tensor.detach().clone().requires_grad_(tensor.is_floating_point() and name not in constant)
        for name, tensor in case._asdict().items()
    }
    output = function(*inputs.values(), **options)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).to(output)
    return output.detach(), *torch.autograd.grad(output, [t for t in inputs.values() if t.requires_grad], upstream)


def by_grid_sample(
    value: Tensor, spatial_shapes: Tensor, frame_index: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """The form of the released code: grid_sample per level, here also per source frame, on gathered frames."""
    B, T, _, M, D = value.shape
    Q, L, P = locations.shape[2], *locations.shape[5:7]
    total = value.new_zeros(B, T, Q, M * D)
    for f, source in enumerate(frame_index.T):
        levels = value[:, source.clamp(min=0)].split([h * w for h, w in spatial_shapes.tolist()], dim=2)
        sampled = []
        for level, (pixels, (height, width)) in enumerate(zip(levels, spatial_shapes.tolist(), strict=True)):
            image = pixels.permute(0, 1, 3, 4, 2).reshape(B * T * M, D, height, width)
            grid = (2 * locations[:, :, :, :, f, level] - 1).transpose(2, 3).reshape(B * T * M, Q, P, 2)
            sampled.append(functional.grid_sample(image, grid, align_corners=False))
        weight = weights[:, :, :, :, f] * (source >= 0).view(1, T, 1, 1, 1, 1)
        weight = weight.transpose(2, 3).reshape(B * T * M, 1, Q, L * P)
        summed = (torch.stack(sampled, -2).flatten(-2) * weight).sum(-1)
        total = total + summed.view(B, T, M * D, Q).transpose(2, 3)
    return total


def by_loops(case: Case) -> np.ndarray:
    """One point and one pixel at a time."""
    value, shapes, frame_index, locations, weights = (tensor.numpy() for tensor in case)
    output = np.zeros((*weights.shape[:4], value.shape[-1]))
    starts = np.concatenate([[0], np.cumsum(shapes.prod(1))])
    for b, t, q, m, f, level, p in np.ndindex(weights.shape):
        source, (height, width) = frame_index[t, f], shapes[level]
        x, y = locations[b, t, q, m, f, level, p] * (width, height) - 0.5
        if source < 0 or not (np.isfinite(x) and np.isfinite(y)):
            continue
        for row in range(height):
            for column in range(width):
                share = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
                pixel = value[b, source, starts[level] + row * width + column, m]
                output[b, t, q, m] += weights[b, t, q, m, f, level, p] * share * pixel
    return output.reshape(*output.shape[:3], -1)
