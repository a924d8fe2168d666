"""T-MSDA: multi-scale deformable attention into the neighbouring frames (TAFormer Eq. 2).

Shape letters: B batch, T frames, Q queries, F source frames, L levels, P points, M heads, D channels per head,
C channels, S sum of H*W over levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vislab import ops
from vislab.blocks.spatial_msda import (
    SpatialMSDA,
    count_levels,
    reset_deformable_projections,
    select_levels,
)
from vislab.errors import UserError


@dataclass(frozen=True)
class TemporalMSDAConfig:
    """T-MSDA.

    num_points: K_inter. window: d, frames on each side. levels: sampled levels, None means all (T5's TFL).
    border: what a neighbour outside of the clip is: "mask" (its points leave the softmax), "clamp" (the border
    frame), "mirror" (the frame reflected at the query's own). projections: W and W' of Eq. 2, "shared" with
    S-MSDA (same symbols in Eq. 1-2, and Table 7's counts), "own_output" or "own". neighbours: "same-frame" replaces
    every neighbour by the frame itself: a control that has all parameters and no temporal information.
    """

    num_points: int = 4
    window: int = 2
    levels: tuple[int, ...] | None = None
    border: Literal["mask", "clamp", "mirror"] = "mask"
    projections: Literal["shared", "own_output", "own"] = "shared"
    neighbours: Literal["adjacent", "same-frame"] = "adjacent"


def neighbour_table(num_frames: int, window: int, border: str = "mask", neighbours: str = "adjacent") -> Tensor:
    """Source frame of each relative offset -d..-1, +1..+d: (T, 2 d) int64, -1 where there is none."""
    own = torch.arange(num_frames)[:, None]
    shift = torch.tensor([offset for offset in range(-window, window + 1) if offset != 0], dtype=torch.int64)
    table = own + shift
    outside = (table < 0) | (table >= num_frames)
    if border == "clamp":
        table = table.clamp(0, num_frames - 1)
    elif border == "mirror":
        table = torch.where(outside, own - shift, table)
        table = table.masked_fill((table < 0) | (table >= num_frames), -1)
    else:
        table = table.masked_fill(outside, -1)
    return torch.where(table >= 0, own.expand_as(table), table) if neighbours == "same-frame" else table


class TemporalMSDA(nn.Module):
    """T-MSDA: each query samples P points on each level of 2 d neighbouring frames, one softmax over all of them.

    Every relative offset has its own slice of the projections, as Table 7's step of 592,128 parameters per K_inter
    demands (Eq. 2; the query's own frame is left out).
    """

    def __init__(self, channels: int, num_heads: int, num_levels: int, config: TemporalMSDAConfig) -> None:
        super().__init__()
        self.config, self.num_heads = config, num_heads
        self.num_levels = count_levels(config.levels, num_levels)
        if config.window < 1:
            raise UserError(f"temporal.window is {config.window}, expected at least 1; without T-MSDA temporal is None")
        slots = 2 * config.window
        per_query = num_heads * slots * self.num_levels * config.num_points
        self.sampling_offsets = nn.Linear(channels, per_query * 2)
        self.attention_weights = nn.Linear(channels, per_query)
        reset_deformable_projections(
            self.sampling_offsets, self.attention_weights, num_heads, slots * self.num_levels, config.num_points
        )
        self.value_proj = nn.Linear(channels, channels) if config.projections == "own" else None
        self.output_proj = nn.Linear(channels, channels) if config.projections != "shared" else None
        for projection in (self.value_proj, self.output_proj):
            if projection is not None:
                nn.init.xavier_uniform_(projection.weight)
                nn.init.zeros_(projection.bias)

    def source_frames(self, num_frames: int) -> Tensor:
        """(T, F) int64, -1 for an absent frame."""
        return neighbour_table(num_frames, self.config.window, self.config.border, self.config.neighbours)

    def project(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """query: (B, T, Q, C). Returns offsets (B, T, Q, M, F, L, P, 2) and logits (B, T, Q, M, F, L, P)."""
        layout = (self.num_heads, 2 * self.config.window, self.num_levels, self.config.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*layout, 2))
        return offsets, self.attention_weights(query).unflatten(-1, layout)

    def forward(
        self, query: Tensor, reference: Tensor, memory: Tensor, value: Tensor, spatial_shapes: Tensor,
        padding_mask: Tensor | None, spatial: SpatialMSDA, other_reference: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Attention map E^inter.

        query, memory: (B, T, Q or S, C). reference: (B, T, Q, L, 2 or 4), T may be 1. value: (B, T, S, M, D), S-MSDA's
        projected value, used when W' is shared; spatial: the S-MSDA whose projections are shared. other_reference:
        (B, T, Q, F, L, 2 or 4) where the neighbours have references of their own. Returns (B, T, Q, C).
        """
        config = self.config
        if self.value_proj is not None:
            value = self.value_proj(memory)
            if padding_mask is not None:
                value = value.masked_fill(padding_mask[:, None, :, None], 0.0)
            value = value.unflatten(-1, (self.num_heads, -1))
        value, shapes = select_levels(value, spatial_shapes, config.levels)
        points = reference.unsqueeze(3) if other_reference is None else other_reference
        if config.levels is not None:
            points = points[..., list(config.levels), :]
        table = self.source_frames(value.shape[1])
        samples = ops.deform_attn_fused(value, shapes, table, points, *self.project(query))
        return (spatial.output_proj if self.output_proj is None else self.output_proj)(samples)
