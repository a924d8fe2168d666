"""Temporal layers on frame features, the rivals of messenger shift in TeViT's Table 7.

The paper gives neither their sizes nor their places; here one follows every layer of the backbone.
Shape letters: B batch, T frames, S patches of a frame, M messenger tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.multi_head_attention import MultiHeadSelfAttention
from vislab.errors import UserError


@dataclass(frozen=True)
class FrameConvolutionConfig:
    """Convolution over the frames at every place of the map. kernel_size: frames, odd."""

    kernel_size: int = 3

    def build(self, channels: int, num_heads: int, layer: int, num_layers: int) -> FrameConvolution:
        if self.kernel_size % 2 == 0:
            raise UserError(f"backbone.aggregation.kernel_size is {self.kernel_size}, expected an odd number of frames")
        return FrameConvolution(channels, self.kernel_size)


@dataclass(frozen=True)
class FrameTransformerConfig:
    """MHSA over the frames at every place of the map, then an FFN. feed_forward_ratio: its width per channel."""

    feed_forward_ratio: int = 4

    def build(self, channels: int, num_heads: int, layer: int, num_layers: int) -> FrameTransformer:
        return FrameTransformer(channels, num_heads, self.feed_forward_ratio)


def _by_place(patches: Tensor) -> Tensor:
    """(B, T, S, C) -> (B * S, T, C)."""
    return patches.transpose(1, 2).flatten(0, 1)


class FrameConvolution(nn.Module):
    """x + convolution of x along time, zeros beyond the clip (TeViT Table 7, "Conv")."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2)

    def forward(self, patches: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """patches: (B, T, S, C). tokens: (B, T, M, C), left alone. Returns both."""
        update = self.convolution(_by_place(patches).transpose(1, 2)).transpose(1, 2)
        return patches + update.unflatten(0, (patches.shape[0], -1)).transpose(1, 2), tokens


class FrameTransformer(nn.Module):
    """MHSA along time and an FFN, both post-norm (TeViT Table 7, "MHSA + FFN")."""

    def __init__(self, channels: int, num_heads: int, feed_forward_ratio: int) -> None:
        super().__init__()
        self.attention = MultiHeadSelfAttention(channels, num_heads)
        self.feed_forward = FeedForward(channels, feed_forward_ratio * channels)

    def forward(self, patches: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """patches: (B, T, S, C). tokens: (B, T, M, C), left alone. Returns both."""
        mixed = self.feed_forward(self.attention(_by_place(patches)))
        return mixed.unflatten(0, (patches.shape[0], -1)).transpose(1, 2), tokens
