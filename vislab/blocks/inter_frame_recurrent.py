"""IFR: inter-frame recurrent attention (You et al., "Consistent Video Instance Segmentation with Inter-Frame
Recurrent Attention", section 3.1, Eq. 2-3).

Shape letters: B batch, T frames, Q queries, K tokens of one frame and level, M heads, D channels per head, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.frame_memory import FrameMemory
from vislab.blocks.masked_attention import MaskedCrossAttention, MaskMode
from vislab.blocks.multi_head_attention import MultiHeadSelfAttention
from vislab.config import added_later


@dataclass(frozen=True)
class InterFrameRecurrentConfig:
    """IFR layer. mask_mode: "multiply" is Eq. 1 as printed, but for queries that are blocked everywhere (see
    MaskedCrossAttention). feed_forward_channels: of the network after the clip-level self-attention; the paper names
    none, its baseline has one of this width in every layer. None leaves it out. start: of what the layer adds to its
    baseline's, the way from frame-level to clip-level queries: "random" as in the paper (section 4.1), or "own_frames",
    where a clip-level query begins as itself plus a mean of its own frames'."""

    mask_mode: MaskMode = "neg_inf"
    feed_forward_channels: int | None = 2048
    start: Literal["random", "own_frames"] = field(default="random", metadata=added_later())

    def build(self, channels: int, num_heads: int, dropout: float) -> InterFrameRecurrentLayer:
        return InterFrameRecurrentLayer(channels, num_heads, dropout, self)


class InterFrameRecurrentLayer(nn.Module):
    """One IFR decoder layer: frame-level queries handed from frame to frame, then clip-level queries gather them.

    Eq. 2 prints F_{T+t}; the text defines everything on the current frame's map F_t, which is what is read here. Every
    attention has a residual and a norm after it, as in the baseline's layers.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float, config: InterFrameRecurrentConfig) -> None:
        super().__init__()
        width = config.feed_forward_channels
        self.cross_attention = MaskedCrossAttention(channels, num_heads, dropout, config.mask_mode)
        self.self_attention = MaskedCrossAttention(channels, num_heads, dropout)
        self.temporal_attention = MaskedCrossAttention(channels, num_heads, dropout)
        self.clip_attention = MultiHeadSelfAttention(channels, num_heads, dropout)
        self.feed_forward = nn.Identity() if width is None else FeedForward(channels, width, dropout)
        if config.start == "own_frames":
            self._start_from_own_frames()

    @torch.no_grad()
    def _start_from_own_frames(self) -> None:
        """Unit projections let a query find the keys that carry its own position, and hand on what they hold; the
        self-attention after it begins by adding nothing."""
        own = self.temporal_attention
        own.in_proj_weight.copy_(torch.eye(own.in_proj_weight.shape[1]).repeat(3, 1))
        nn.init.eye_(own.out_proj.weight)
        nn.init.zeros_(self.clip_attention.out_proj.weight)

    def forward(self, clip: Tensor, position: Tensor, memory: FrameMemory, mask: Tensor) -> tuple[Tensor, Tensor]:
        """clip: (B, Q, C), Q_i; position: (Q, C); mask: (B, T, Q, K) bool, where both groups of queries may look.
        Returns Q_{i+1} (B, Q, C) and the frame-level queries Q_i^1..Q_i^n, which predict the masks, (B, T, Q, C)."""
        frames = self.frame_queries(clip, position, memory, mask)
        return self.clip_queries(clip, position, frames, memory.frame_position), frames

    def frame_queries(self, clip: Tensor, position: Tensor, memory: FrameMemory, mask: Tensor) -> Tensor:
        """Eq. 2-3 along the clip; frame t depends on frames 1..t only. Returns (B, T, Q, C)."""
        key, value = self.cross_attention.project_memory(memory.tokens, memory.position)
        clip_key, clip_value = self._clip_branch(clip, position, key, value, mask)
        previous, frames = clip, []
        for t in range(memory.tokens.shape[1]):
            seen = self.cross_attention.attend(previous, position, key[:, t], value[:, t], mask[:, t])
            own_key, own_value = self.self_attention.project_memory(seen, position)
            joint_key = torch.cat((own_key, clip_key[:, t]), dim=-2)
            joint_value = torch.cat((own_value, clip_value[:, t]), dim=-2)
            # Chunk keeps the first group, so nothing of the second is computed as a query
            previous = self.self_attention.attend(seen, position, joint_key, joint_value)
            frames.append(previous)
        return torch.stack(frames, dim=1)

    def _clip_branch(
        self, clip: Tensor, position: Tensor, key: Tensor, value: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Second half of Eq. 2 as the self-attention's keys and values, (B, T, M, Q, D) each. It takes no part in the
        recurrence, so all frames are computed together. key, value: (B, T, M, K, D)."""
        batch, num_frames = mask.shape[:2]
        repeated = clip[:, None].expand(-1, num_frames, -1, -1).flatten(0, 1)
        seen = self.cross_attention.attend(
            repeated, position, key.flatten(0, 1), value.flatten(0, 1), mask.flatten(0, 1)
        )
        return self.self_attention.project_memory(seen.unflatten(0, (batch, num_frames)), position)

    def clip_queries(self, clip: Tensor, position: Tensor, frames: Tensor, frame_position: Tensor) -> Tensor:
        """Temporal cross-attention to all frame-level queries, then self-attention: Q_{i+1}, (B, Q, C).

        frames: (B, T, Q, C); frame_position: (T, C). A key carries the position of its query, so that an instance
        finds its own frames, and that of its frame; the paper names neither.
        """
        frame_query_position = (position + frame_position[:, None]).flatten(0, 1)
        clip = self.temporal_attention(clip, position, frames.flatten(1, 2), frame_query_position)
        return self.feed_forward(self.clip_attention(clip, position))
