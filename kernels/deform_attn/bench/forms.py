"""The competitors in plain torch, and adapters that bring one-frame implementations to the full problem.

Shape letters: see cases.py; N is B * T or, where all frames look at one source frame, B.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vislab.ops.reference import deform_attn_reference

from .cases import Inputs, Levels

# value (N, S, M, D), levels, locations (N, Q, M, L, P, 2), weights (N, Q, M, L, P) -> (N, Q, M * D)
OneFrame = Callable[[Tensor, Levels, Tensor, Tensor], Tensor]
Run = Callable[[Inputs], Tensor]


@functools.cache
def level_tables(levels: Levels, device: torch.device) -> tuple[Tensor, Tensor]:
    """(L, 2) heights and widths, and (L,) first tokens, as published interfaces want them; made once, as in a model."""
    sizes = torch.tensor([height * width for height, width in levels])
    return torch.tensor(levels, device=device), (sizes.cumsum(0) - sizes).to(device)


def locations_and_weights(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """What published modules do in torch before they sample; nothing where the inputs are locations already."""
    if inputs.reference is None:
        return inputs.coordinates, inputs.scores
    sizes = inputs.coordinates.new_tensor([[width, height] for height, width in inputs.levels])[:, None]
    locations = inputs.reference[:, :, :, None, :, :, None] + inputs.coordinates / sizes
    weights = inputs.scores.flatten(-3).softmax(-1).view(inputs.scores.shape)
    return locations.to(inputs.value.dtype), weights


def definition(inputs: Inputs) -> Tensor:
    """`vislab.ops.reference`, after the steps in torch."""
    locations, weights = locations_and_weights(inputs)
    index = (_Constant(inputs.levels), torch.tensor(inputs.frames))
    return deform_attn_reference(inputs.value, *index, locations, weights)  # type: ignore[arg-type]


class _Constant:
    """Stands for the tensor spatial_shapes, of which only `tolist` is used: so torch.compile knows the numbers."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels

    def tolist(self) -> Sequence[Sequence[int]]:
        return self._levels


def sample_grid(value: Tensor, levels: Levels, locations: Tensor, weights: Tensor) -> Tensor:
    """One grid_sample per level: what the field's code runs where its CUDA extension does not build."""
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    grids = (2 * locations - 1).unbind(3)
    samples = []  # of every level (N * M, D, Q, P)
    for level, pixels in enumerate(value.split([height * width for height, width in levels], dim=1)):
        image = pixels.permute(0, 2, 3, 1).reshape(batch * heads, channels, *levels[level])
        grid = grids[level].transpose(1, 2).flatten(0, 1)  # (N * M, Q, P, 2), a copy: grid_sample is slow on strides
        samples.append(functional.grid_sample(image, grid, align_corners=False))
    shares = weights.transpose(1, 2).flatten(0, 1).flatten(2)  # (N * M, Q, L * P)
    # One sum over all points is faster here than one a level.
    output = (torch.cat(samples, -1) * shares[:, None]).sum(-1)
    return output.view(batch, heads * channels, queries).transpose(1, 2)


def per_source(one_frame: OneFrame) -> Run:
    """One call per source frame, summed: the best that an implementation for one frame can do.

    Where every frame looks at itself, the frames are the batch. Where all look at the same frame, their queries are
    put together and it is handed over once, without a copy. Only otherwise frames are gathered.
    """

    def run(inputs: Inputs) -> Tensor:
        locations, weights = (tensor.unbind(4) for tensor in locations_and_weights(inputs))
        frames = inputs.value.unbind(1)
        output: Tensor | float = 0.0
        for source, column in enumerate(zip(*inputs.frames, strict=True)):
            where, how_much = locations[source], weights[source]  # (B, T, Q, M, L, P, 2), (B, T, Q, M, L, P)
            if len(column) > 1 and len(set(column)) == 1:
                part = one_frame(frames[column[0]], inputs.levels, where.flatten(1, 2), how_much.flatten(1, 2))
            else:
                gathered = _gather(inputs.value, column)
                part = one_frame(gathered, inputs.levels, where.flatten(0, 1), how_much.flatten(0, 1))
            output = output + part.reshape(*where.shape[:3], part.shape[-1])
        assert isinstance(output, Tensor)
        return output

    return run


def _gather(value: Tensor, column: tuple[int, ...]) -> Tensor:
    """(B, T, S, M, D) -> (B * T, S, M, D), where frame t is frame column[t] of value."""
    assert min(column) >= 0
    if column != tuple(range(len(column))):
        value = value[:, torch.tensor(column, device=value.device)]
    return value.flatten(0, 1)
