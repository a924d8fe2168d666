"""Cases of the benchmark: sizes, random inputs, and the least work and traffic that any implementation has.

Shape letters: B batch, T frames, Q queries, F source frames, L levels, P points, M heads, D channels per head,
S sum of height * width over levels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

Levels = tuple[tuple[int, int], ...]

IMAGE_360x640: Levels = ((45, 80), (23, 40), (12, 20), (6, 10))  # strides 8, 16, 32 and 64
IMAGE_96x160: Levels = ((12, 20), (6, 10), (3, 5))  # strides 8, 16 and 32: the tiny scale
QUICK: Levels = ((5, 8), (3, 4))

# Points lie around their reference like those of a model: a few pixels of their level away.
SPREAD = 3.0
# No point comes nearer to a pixel centre, where the location gradient jumps: roundings must not decide about the check.
CLEARANCE = 0.01


@dataclass(frozen=True)
class Case:
    """One call of deformable attention. `queries` None: every token of every frame, as in an encoder."""

    name: str
    levels: Levels = IMAGE_360x640
    batch: int = 1
    frames: int = 5
    queries: int | None = None
    heads: int = 8
    channels: int = 32
    sources: int = 1
    points: int = 4
    fused: bool = False  # from raw offsets, logits and reference points
    scattered: bool = False  # points anywhere in the image instead of around their reference

    @property
    def tokens(self) -> int:
        return sum(height * width for height, width in self.levels)

    @property
    def num_queries(self) -> int:
        return self.tokens if self.queries is None else self.queries

    @property
    def layout(self) -> tuple[int, ...]:
        """(B, T, Q, M, F, L, P)."""
        return (
            self.batch, self.frames, self.num_queries, self.heads, self.sources, len(self.levels), self.points
        )  # fmt: skip

    def quick(self) -> Case:
        """The same case small enough for a functional run; its times say nothing."""
        queries = None if self.queries is None else min(self.queries, 7)
        return replace(self, levels=QUICK, frames=min(self.frames, 3), sources=min(self.sources, 3), queries=queries,
                       heads=2, channels=8)  # fmt: skip


CASES = {
    case.name: case
    for case in (
        Case("encoder"),
        Case("encoder-scattered", scattered=True),
        Case("decoder", queries=300),
        Case("temporal-encoder", sources=5),
        Case("temporal-decoder", queries=300, sources=5),
        Case("fused-encoder", fused=True),
        Case("tiny-encoder", IMAGE_96x160, batch=2, heads=4),
        Case("tiny-temporal", IMAGE_96x160, batch=2, heads=4, sources=4),
        Case("tiny-decoder", IMAGE_96x160, batch=2, heads=4, queries=15),
    )
}


class Inputs(NamedTuple):
    """What one call gets. The index tensors stay on the CPU; `levels` and `frames` are the same as plain numbers."""

    value: Tensor  # (B, T, S, M, D)
    coordinates: Tensor  # (B, T, Q, M, F, L, P, 2): locations, or raw offsets in pixels where there is a reference
    scores: Tensor  # (B, T, Q, M, F, L, P): weights, or raw logits where there is a reference
    reference: Tensor | None  # (B, 1, Q, 1, L, 2) float32
    levels: Levels
    frames: tuple[tuple[int, ...], ...]  # (T, F)

    @property
    def spatial_shapes(self) -> Tensor:
        return _index_tensor(self.levels)

    @property
    def frame_index(self) -> Tensor:
        return _index_tensor(self.frames)

    def with_leaves(self, value: Tensor, coordinates: Tensor, scores: Tensor) -> Inputs:
        return self._replace(value=value, coordinates=coordinates, scores=scores)

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Inputs:
        """The reference follows only to float64: paths take it in float32."""
        moved = self.with_leaves(*(tensor.to(device, dtype) for tensor in self[:3]))
        if self.reference is None:
            return moved
        wide = torch.promote_types(dtype, torch.float32)
        return moved._replace(reference=self.reference.to(device, wide))

    def at(self, queries: Tensor) -> Inputs:
        """Only these queries (positions along Q)."""
        reference = None if self.reference is None else self.reference.index_select(2, queries)
        coordinates, scores = (tensor.index_select(2, queries) for tensor in (self.coordinates, self.scores))
        return self.with_leaves(self.value, coordinates, scores)._replace(reference=reference)


@functools.cache
def _index_tensor(table: tuple[tuple[int, ...], ...]) -> Tensor:
    """Made once, as in a model."""
    return torch.tensor(table)


def make_inputs(case: Case) -> Inputs:
    """Float32 inputs on the CPU, always the same for a case."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(case.batch, case.frames, case.tokens, case.heads, case.channels, generator=generator)
    reference = _reference_points(case, generator)
    sizes = torch.tensor([[width, height] for height, width in case.levels])[:, None]  # (L, 1, 2)
    centre = reference[:, :, :, None, :, :, None] * sizes - 0.5
    if case.scattered:
        position = torch.rand(*case.layout, 2, generator=generator) * sizes - 0.5
    else:
        position = centre + SPREAD * torch.randn(*case.layout, 2, generator=generator)
    cell = position.floor()
    position = cell + (position - cell).clamp(CLEARANCE, 1 - CLEARANCE)
    logits = torch.randn(case.layout, generator=generator)
    everyone = case.sources == case.frames
    frames = tuple(
        tuple(source if everyone else (frame + source) % case.frames for source in range(case.sources))
        for frame in range(case.frames)
    )
    if case.fused:
        return Inputs(value, position - centre, logits, reference, case.levels, frames)
    weights = logits.flatten(-3).softmax(-1).view(case.layout)
    return Inputs(value, (position + 0.5) / sizes, weights, None, case.levels, frames)


def _reference_points(case: Case, generator: torch.Generator) -> Tensor:
    """(B, 1, Q, 1, L, 2): an encoder's queries stand on the pixel centres, a decoder's anywhere."""
    if case.queries is not None:
        points = torch.rand(case.queries, 2, generator=generator)
    else:
        grids = []
        for height, width in case.levels:
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            grids.append(torch.stack([(x + 0.5) / width, (y + 0.5) / height], -1).flatten(0, 1))
        points = torch.cat(grids)
    return points[None, None, :, None, None].expand(case.batch, 1, -1, 1, len(case.levels), 2).contiguous()


def returned_bytes(case: Case, backward: bool, itemsize: int) -> int:
    """What a call gives back: the output, and the three gradients if it goes backward."""
    output = case.batch * case.frames * case.num_queries * case.heads * case.channels
    return itemsize * (output + (_input_numbers(case) if backward else 0))


def compulsory_bytes(case: Case, backward: bool, itemsize: int) -> int:
    """Traffic with a cache that forgets nothing: every input read once, every result written once.

    Backward reads the inputs and the upstream gradient again and writes three gradients.
    """
    output = case.batch * case.frames * case.num_queries * case.heads * case.channels
    numbers = _input_numbers(case) + output
    if backward:
        numbers += 2 * _input_numbers(case) + output
    reference = 4 * case.batch * case.num_queries * len(case.levels) * 2 if case.fused else 0
    return itemsize * numbers + reference * (2 if backward else 1)


def flops(case: Case, backward: bool) -> int:
    """A multiply and an add per point, corner and channel; backward twice as many more. Positions, shares and the
    softmax are not counted, as in the FLOP formula of the operator."""
    forward = 2 * 4 * prod(case.layout) * case.channels
    return 3 * forward if backward else forward


def _input_numbers(case: Case) -> int:
    value = case.batch * case.frames * case.tokens * case.heads * case.channels
    return value + 3 * prod(case.layout)
