"""Messenger shift (TeViT section 3.2) and what it is compared with on messenger tokens (Table 6).

Shape letters: B batch, T frames, S patches of a frame, M messenger tokens, G groups, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.multi_head_attention import MultiHeadSelfAttention
from vislab.errors import UserError

Border = Literal["cyclic", "zero", "keep"]


@dataclass(frozen=True)
class MessengerShiftConfig:
    """Messenger shift. strides: frames by which each of G equal groups of tokens moves, forward where positive.

    shift_border: where a group would read beyond the clip it reads from the clip's other end ("cyclic", the release),
    zeros ("zero"), or its own frame ("keep"); the paper does not say.
    """

    strides: tuple[int, ...] = (1, -1, 2, -2)
    shift_border: Border = "cyclic"

    def build(self, channels: int, num_heads: int, layer: int, num_layers: int) -> MessengerShift | None:
        """The shift after a layer of a stage: every second one undoes the one before. A stage with an odd number of
        layers does not shift after its last, which nothing would undo (TeViT mmdet/models/backbones/msgshift.py)."""
        if not self.strides:
            raise UserError("backbone.aggregation.strides is empty, expected a stride for each group of tokens")
        if num_layers % 2 == 1 and layer == num_layers - 1:
            return None
        sign = -1 if layer % 2 else 1
        return MessengerShift(tuple(sign * stride for stride in self.strides), self.shift_border)


@dataclass(frozen=True)
class MessengerTransformerConfig:
    """MHSA and FFN on the messenger tokens of all frames together, after every layer (Table 6; Hwang et al., IFC).

    feed_forward_ratio: hidden width of the FFN per channel (not stated).
    """

    feed_forward_ratio: int = 4

    def build(self, channels: int, num_heads: int, layer: int, num_layers: int) -> MessengerTransformer:
        return MessengerTransformer(channels, num_heads, self.feed_forward_ratio)


def shift_messengers(tokens: Tensor, strides: tuple[int, ...], border: Border = "cyclic") -> Tensor:
    """Messenger shift: of group g, frame t gets the tokens of frame t - strides[g] (TeViT section 3.2, Fig. 2).

    A clip of one frame, which has nobody to exchange tokens with, passes unchanged.
    tokens: (B, T, M, C), M divisible by len(strides), else UserError. Returns the same shape.
    """
    num_frames, num_tokens = tokens.shape[1:3]
    if num_tokens % len(strides):
        raise UserError(f"messenger tokens: {num_tokens}, expected a multiple of {len(strides)}, one group per stride")
    if num_frames == 1:
        return tokens
    own = torch.arange(num_frames, device=tokens.device)
    groups = []
    for group, stride in zip(tokens.chunk(len(strides), dim=2), strides, strict=True):
        source = own - stride
        outside = (source < 0) | (source >= num_frames)
        if border == "keep":
            source = torch.where(outside, own, source)
        moved = group[:, source % num_frames]
        groups.append(moved.masked_fill(outside[:, None, None], 0.0) if border == "zero" else moved)
    return torch.cat(groups, dim=2)


class MessengerShift(nn.Module):
    """Messenger shift: groups of messenger tokens move along time; no parameters (TeViT section 3.2)."""

    def __init__(self, strides: tuple[int, ...], border: Border = "cyclic") -> None:
        super().__init__()
        self.strides, self.border = strides, border

    def forward(self, patches: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """patches: (B, T, S, C), left alone. tokens: (B, T, M, C). Returns both."""
        return patches, shift_messengers(tokens, self.strides, self.border)


class MessengerTransformer(nn.Module):
    """MHSA among the messenger tokens of all frames, then an FFN, both post-norm (TeViT Table 6, after IFC)."""

    def __init__(self, channels: int, num_heads: int, feed_forward_ratio: int) -> None:
        super().__init__()
        self.attention = MultiHeadSelfAttention(channels, num_heads)
        self.feed_forward = FeedForward(channels, feed_forward_ratio * channels)

    def forward(self, patches: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """patches: (B, T, S, C), left alone. tokens: (B, T, M, C). Returns both."""
        mixed = self.feed_forward(self.attention(tokens.flatten(1, 2)))
        return patches, mixed.view_as(tokens)
