"""Mask2Former-VIS' decoder layer: one query per instance looks at all frames at once.

Cheng et al., "Mask2Former for Video Instance Segmentation"; the baseline of IFR.

Shape letters: B batch, T frames, Q queries, K tokens of one frame and level, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.frame_memory import FrameMemory
from vislab.blocks.masked_attention import MaskedCrossAttention, MaskMode
from vislab.blocks.multi_head_attention import MultiHeadSelfAttention


@dataclass(frozen=True)
class VolumetricQueriesConfig:
    """Volumetric queries. mask_mode: see MaskedCrossAttention."""

    feed_forward_channels: int = 2048
    mask_mode: MaskMode = "neg_inf"

    def build(self, channels: int, num_heads: int, dropout: float) -> VolumetricQueries:
        return VolumetricQueries(channels, num_heads, dropout, self)


class VolumetricQueries(nn.Module):
    """Masked cross-attention over the clip, self-attention, feed-forward network, post-norm (Mask2Former
    mask2former_video/modeling/transformer_decoder/video_mask2former_transformer_decoder.py:407-427)."""

    def __init__(self, channels: int, num_heads: int, dropout: float, config: VolumetricQueriesConfig) -> None:
        super().__init__()
        self.cross_attention = MaskedCrossAttention(channels, num_heads, dropout, config.mask_mode)
        self.self_attention = MultiHeadSelfAttention(channels, num_heads, dropout)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, dropout)

    def forward(self, clip: Tensor, position: Tensor, memory: FrameMemory, mask: Tensor) -> tuple[Tensor, Tensor]:
        """clip: (B, Q, C); position: (Q, C); mask: (B, T, Q, K) bool, where a query may look. Returns the new
        clip-level queries (B, Q, C) and the queries that predict the masks, the same in all frames: (B, 1, Q, C)."""
        tokens, token_position = memory.tokens.flatten(1, 2), memory.position.flatten(0, 1)
        clip = self.cross_attention(clip, position, tokens, token_position, mask.transpose(1, 2).flatten(2))
        clip = self.feed_forward(self.self_attention(clip, position))
        return clip, clip[:, None]
