"""TMSDA: temporal multi-scale deformable attention over all frames of a clip (DeVIS Eq. 2-4).

Shape letters: B batch, T frames, Q queries, F source frames, L levels, P points, M heads, D channels per head,
C channels, S sum of H*W over levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vislab import ops
from vislab.blocks.spatial_msda import SpatialMSDA, reset_deformable_projections, select_levels
from vislab.blocks.temporal_msda import neighbour_table
from vislab.errors import UserError


@dataclass(frozen=True)
class ClipMSDAConfig:
    """DeVIS' TMSDA; the number of frames is the model's clip_length.

    num_points: K_temp, on every other frame; 0 leaves plain S-MSDA. K_curr is the spatial block's num_points.
    temporal_reference: where an encoder query looks on other frames: at its reference on the finest level, for all
        levels ("level0", DeVIS src/models/ops/modules/ms_deform_attn.py:447), or at that of each level ("per_level");
        they differ only where padding gives levels different valid ratios.
    window: None connects all frames of the clip; d only the d frames before and after, which needs no clip_length. A
        neighbour outside of the clip is mirrored to the other side (DeVIS src/models/devis_transformer.py:96-112).
    initial_share: of the attention, in (0, 1), that goes to the other frames at first; None: that of equal points, as
        DeVIS' copied projections have it. A small one leaves a model that was trained on single frames what it was.
    """

    num_points: int = 4
    temporal_reference: Literal["level0", "per_level"] = "level0"
    window: int | None = None
    initial_share: float | None = None

    def __post_init__(self) -> None:
        if self.initial_share is not None and not 0 < self.initial_share < 1:
            raise UserError(f"temporal.initial_share is {self.initial_share}, expected None or a number in (0, 1)")
        if self.num_points < 0:
            raise UserError(f"temporal.num_points is {self.num_points}, expected 0 or more (K_temp)")
        if self.window is not None and self.window < 1:
            raise UserError(f"temporal.window is {self.window}, expected None (all frames) or at least 1")

    def slots(self, clip_length: int | None) -> int:
        """Number of other frames that get projections; UserError where clip_length is needed and not given."""
        if self.window is not None:
            return 2 * self.window
        if clip_length is None:
            raise UserError("clip_length is None, expected the number of frames of a clip, which ClipMSDA needs")
        return clip_length - 1


def other_frames(num_frames: int, window: int | None = None) -> Tensor:
    """Source frames other than the own one: (T, T - 1) int64, ascending without t (DeVIS appendix A), or with a window
    (T, 2 d), neighbours mirrored at the borders, -1 where there is none on either side."""
    if window is not None:
        return neighbour_table(num_frames, window, border="mirror")
    frames = torch.arange(num_frames - 1).expand(num_frames, -1)
    return frames + (frames >= torch.arange(num_frames)[:, None]).long()


def reference_on_frames(reference: Tensor, table: Tensor) -> Tensor:
    """Instance-aware reference points: those of the same trajectory on the source frames (DeVIS section 3.3).

    reference: (B, T, Q, L, 2 or 4); table: (T, F), -1 for an absent frame. Returns (B, T, Q, F, L, 2 or 4).
    """
    return reference[:, table.clamp(min=0).to(reference.device)].transpose(2, 3)


class ClipMSDA(nn.Module):
    """TMSDA: each query samples K_curr points on its own frame and K_temp on every other, under one softmax (Eq. 3-4).

    Holds the projections of the other frames, one slice per frame in ascending order; those of the own frame, W and W'
    belong to the S-MSDA beside it, so that S-MSDA weights load unchanged.

    Args:
        channels: C. num_slots: F, other frames. spatial: the S-MSDA of the own frame; gives M and the sampled levels.
    """

    def __init__(self, channels: int, num_slots: int, spatial: SpatialMSDA, config: ClipMSDAConfig) -> None:
        super().__init__()
        self.config, self.num_slots = config, num_slots
        self.num_heads, self.num_levels = spatial.num_heads, spatial.num_levels
        per_query = self.num_heads * num_slots * self.num_levels * config.num_points
        self.sampling_offsets = nn.Linear(channels, per_query * 2)
        self.attention_weights = nn.Linear(channels, per_query)
        reset_deformable_projections(
            self.sampling_offsets, self.attention_weights, self.num_heads, num_slots * self.num_levels,
            config.num_points,
        )  # fmt: skip
        self.lower_logits(self.attention_weights.bias.data, spatial.num_points)

    def lower_logits(self, bias: Tensor, own_points: int) -> None:
        """Shifts the bias of the other frames' logits, in place, from the share of equal points to initial_share."""
        share, points = self.config.initial_share, self.num_slots * self.config.num_points
        if share is not None:
            bias += math.log(share / (1 - share)) - math.log(points / own_points)

    def source_frames(self, num_frames: int) -> Tensor:
        """(T, F) int64, -1 for an absent frame."""
        table = other_frames(num_frames, self.config.window)
        expected = self.num_slots + 1
        assert table.shape[1] == self.num_slots, f"clip of {num_frames} frames, this ClipMSDA is for {expected}"
        return table

    def project(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """query: (B, T, Q, C). Returns offsets (B, T, Q, M, F, L, P, 2) and logits (B, T, Q, M, F, L, P)."""
        layout = (self.num_heads, self.num_slots, self.num_levels, self.config.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*layout, 2))
        return offsets, self.attention_weights(query).unflatten(-1, layout)

    def references(self, reference: Tensor, other_reference: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T or 1, Q, 1, L, 2 or 4) on the own frame, and (B, T or 1, Q, F or 1, L, 2 or 4) on the others."""
        own = reference.unsqueeze(3)
        if other_reference is None:
            level0 = self.config.temporal_reference == "level0"
            other_reference = own[..., :1, :].expand_as(own) if level0 else own
        return own, other_reference

    def forward(
        self, query: Tensor, reference: Tensor, value: Tensor, spatial_shapes: Tensor, spatial: SpatialMSDA,
        other_reference: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Weighted samples of each head over the clip, side by side, before the output projection.

        query: (B, T, Q, C). reference: (B, T or 1, Q, L, 2 or 4), on the own frame. value: (B, T, S, M, D), projected
        by `spatial`. other_reference: (B, T or 1, Q, F or 1, L, 2 or 4) on the others; None: temporal_reference
        decides. Returns (B, T, Q, C).
        """
        own, others = self.references(reference, other_reference)
        if spatial.levels is not None:
            own, others = (part[..., list(spatial.levels), :] for part in (own, others))
        value, shapes = select_levels(value, spatial_shapes, spatial.levels)
        num_frames = value.shape[1]
        tables = torch.arange(num_frames)[:, None], self.source_frames(num_frames)
        here, there = spatial.project(query), self.project(query)
        if spatial.num_points == self.config.num_points:
            reference = own if own is others else _joined_references(own, others, self.num_slots)
            offsets, logits = (torch.cat(pair, dim=4) for pair in zip(here, there, strict=True))
            return ops.deform_attn_fused(value, shapes, torch.cat(tables, dim=1), reference, offsets, logits)
        seen_here, seen_there = (
            ops.deform_attn_fused(value, shapes, table, points, *projected)
            for table, points, projected in zip(tables, (own, others), (here, there), strict=True)
        )
        return _joint_softmax(seen_here, seen_there, here[1], there[1], tables[1])


def _joined_references(own: Tensor, others: Tensor, num_slots: int) -> Tensor:
    """(B, T or 1, Q, 1 + F, L, 2 or 4)."""
    frames = max(own.shape[1], others.shape[1])
    own, others = own.expand(-1, frames, -1, -1, -1, -1), others.expand(-1, frames, -1, num_slots, -1, -1)
    return torch.cat((own, others), dim=3)


def _joint_softmax(own: Tensor, others: Tensor, own_logits: Tensor, other_logits: Tensor, table: Tensor) -> Tensor:
    """Turns two separately normalised sums into one under the joint softmax.

    exp(a) / (sum own + sum others) is the softmax within a part times the part's share of the total. own, others:
    (B, T, Q, C). logits: (B, T, Q, M, F, L, P) of each part; table: (T, F), -1 for frames that take no part.
    """
    absent = (table < 0).to(other_logits.device)[:, None, None, :, None, None]
    other_logits = other_logits.float() if other_logits.dtype != torch.float64 else other_logits
    other_mass = other_logits.masked_fill(absent, float("-inf")).flatten(-3).logsumexp(-1, keepdim=True)
    own_mass = own_logits.to(other_mass.dtype).flatten(-3).logsumexp(-1, keepdim=True)
    share = (own_mass - other_mass).sigmoid().to(own.dtype)
    heads = (share.shape[-2], -1)
    return torch.lerp(others.unflatten(-1, heads), own.unflatten(-1, heads), share).flatten(-2)
