"""S-MSDA: multi-scale deformable attention within a frame (TAFormer Eq. 1; Zhu et al., Deformable DETR).

Shape letters: B batch, T frames, Q queries, L levels, P points, M heads, D channels per head, C channels,
S sum of H*W over levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vislab import ops
from vislab.errors import UserError


@dataclass(frozen=True)
class SpatialMSDAConfig:
    """S-MSDA. num_points: K_intra. levels: which levels are sampled, finest first; None means all (T5's SFL)."""

    num_points: int = 4
    levels: tuple[int, ...] | None = None


def select_levels(value: Tensor, spatial_shapes: Tensor, levels: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    """Keeps the tokens of the chosen levels. value: (B, T, S, M, D), spatial_shapes: (L, 2)."""
    if levels is None:
        return value, spatial_shapes
    parts = value.split([int(size) for size in spatial_shapes.prod(1)], dim=2)
    return torch.cat([parts[level] for level in levels], dim=2), spatial_shapes[list(levels)]


def initial_offsets(num_heads: int, num_points: int) -> Tensor:
    """Sampling pattern at the start: head m looks along angle 2 pi m / M, point k at distance k + 1.

    Returns (M, P, 2) in pixels of a level. Source: Deformable-DETR models/ops/modules/ms_deform_attn.py:62-76.
    """
    angle = torch.arange(num_heads, dtype=torch.float32) * (2 * math.pi / num_heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    distance = torch.arange(1, num_points + 1, dtype=torch.float32)
    return direction[:, None, :] * distance[None, :, None]


def count_levels(levels: tuple[int, ...] | None, num_levels: int) -> int:
    """How many levels are sampled; UserError if one of them does not exist."""
    if levels is None:
        return num_levels
    if not levels or not set(levels) <= set(range(num_levels)):
        raise UserError(f"levels is {levels}, expected None or some of {', '.join(map(str, range(num_levels)))}")
    return len(levels)


def reset_deformable_projections(
    sampling_offsets: nn.Linear, attention_weights: nn.Linear, num_heads: int, repeats: int, num_points: int
) -> None:
    """Zero weights; offset bias = the initial pattern repeated over frames and levels; uniform attention."""
    pattern = initial_offsets(num_heads, num_points)[:, None].expand(-1, repeats, -1, -1)
    with torch.no_grad():
        sampling_offsets.weight.zero_()
        sampling_offsets.bias.copy_(pattern.reshape(-1))
        attention_weights.weight.zero_()
        attention_weights.bias.zero_()


class SpatialMSDA(nn.Module):
    """S-MSDA: each query samples P points on each level of its own frame (TAFormer Eq. 1).

    Args:
        channels: C. num_heads: M. num_levels: levels in the value. config: points and sampled levels.
    """

    def __init__(self, channels: int, num_heads: int, num_levels: int, config: SpatialMSDAConfig) -> None:
        super().__init__()
        self.num_heads, self.num_points, self.levels = num_heads, config.num_points, config.levels
        self.num_levels = count_levels(config.levels, num_levels)
        per_query = num_heads * self.num_levels * self.num_points
        self.sampling_offsets = nn.Linear(channels, per_query * 2)
        self.attention_weights = nn.Linear(channels, per_query)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        reset_deformable_projections(
            self.sampling_offsets, self.attention_weights, num_heads, self.num_levels, self.num_points
        )
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def project_value(self, memory: Tensor, padding_mask: Tensor | None) -> Tensor:
        """memory: (B, T, S, C); padding_mask: (B, S) bool or None. Returns (B, T, S, M, D), zero where padded."""
        value = self.value_proj(memory)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[:, None, :, None], 0.0)
        return value.unflatten(-1, (self.num_heads, -1))

    def project(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """query: (B, T, Q, C). Returns offsets (B, T, Q, M, 1, L, P, 2) and logits (B, T, Q, M, 1, L, P)."""
        layout = (self.num_heads, 1, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*layout, 2))
        return offsets, self.attention_weights(query).unflatten(-1, layout)

    def sample(self, query: Tensor, reference: Tensor, value: Tensor, spatial_shapes: Tensor) -> Tensor:
        """Weighted samples of each head, side by side, before the output projection W_m.

        query: (B, T, Q, C). reference: (B, T, Q, L, 2 or 4), T may be 1. value: (B, T, S, M, D). Returns (B, T, Q, C).
        """
        value, spatial_shapes = select_levels(value, spatial_shapes, self.levels)
        if self.levels is not None:
            reference = reference[..., list(self.levels), :]
        offsets, logits = self.project(query)
        own_frame = torch.arange(value.shape[1])[:, None]
        return ops.deform_attn_fused(value, spatial_shapes, own_frame, reference.unsqueeze(3), offsets, logits)

    def forward(
        self, query: Tensor, reference: Tensor, memory: Tensor, spatial_shapes: Tensor, padding_mask: Tensor | None
    ) -> Tensor:
        """query: (B, T, Q, C), memory: (B, T, S, C). Returns (B, T, Q, C)."""
        value = self.project_value(memory, padding_mask)
        return self.output_proj(self.sample(query, reference, value, spatial_shapes))
