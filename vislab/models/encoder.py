"""Deformable encoder over the tokens of all frames: SeqFormer's, TAFormer's with T-MSDA, DeVIS' with TMSDA.

Shape letters: B batch, T frames, L levels, C channels, S sum of H*W over levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.fusion import DynamicAttentionFusionConfig, FusionConfig
from vislab.blocks.spatial_msda import SpatialMSDAConfig
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA, TemporalConfig


@dataclass(frozen=True)
class EncoderConfig:
    """Deformable encoder. temporal: T-MSDA of TAFormer, TMSDA of DeVIS (the model's clip_length must be set), or None:
    every frame on its own (SeqFormer). fusion acts only with T-MSDA."""

    num_layers: int = 6
    feed_forward_channels: int = 1024
    spatial: SpatialMSDAConfig = SpatialMSDAConfig()
    temporal: TemporalConfig | None = None
    fusion: FusionConfig = DynamicAttentionFusionConfig()


class Memory(NamedTuple):
    """Encoder output. tokens: (B, T, S, C); padding_mask: (B, S), None where padded tokens are sampled as they are;
    ratios: (B, L, 2); spatial_shapes: (L, 2)."""

    tokens: Tensor
    padding_mask: Tensor | None
    ratios: Tensor
    spatial_shapes: Tensor

    def on_levels(self, reference: Tensor) -> Tensor:
        """References relative to the unpadded image, (B, T, Q, 2 or 4), on every padded level, (B, T, Q, L, 2 or 4)."""
        scale = self.ratios.repeat(1, 1, reference.shape[-1] // 2)[:, None, None]
        return reference[:, :, :, None] * scale


def valid_ratios(masks: list[Tensor]) -> Tensor:
    """Unpadded share of each level: masks (B, H_l, W_l) bool -> (B, L, 2), (x, y) in (0, 1]."""
    ratios = []
    for mask in masks:
        width = (~mask[:, 0, :]).float().mean(-1)
        height = (~mask[:, :, 0]).float().mean(-1)
        ratios.append(torch.stack((width, height), dim=-1))
    return torch.stack(ratios, dim=1)


def encoder_reference_points(spatial_shapes: list[tuple[int, int]], ratios: Tensor) -> Tensor:
    """Centre of every token's cell on each level: (B, 1, S, L, 2), one for all frames.

    Source: Deformable-DETR models/deformable_transformer.py:238-250.
    """
    points = []
    for level, (height, width) in enumerate(spatial_shapes):
        y = (torch.arange(height, device=ratios.device) + 0.5) / height
        x = (torch.arange(width, device=ratios.device) + 0.5) / width
        grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)
        points.append(grid.flatten(0, 1)[None] / ratios[:, None, level])
    return (torch.cat(points, dim=1)[:, :, None] * ratios[:, None])[:, None]


class EncoderLayer(nn.Module):
    """(Spatio-temporal) deformable self-attention and a feed-forward network, post-norm."""

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, config: EncoderConfig, dropout: float,
        clip_length: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.attention = SpatioTemporalMSDA(
            channels, num_heads, num_levels, config.spatial, config.temporal, config.fusion, clip_length
        )
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, dropout)

    def forward(
        self, tokens: Tensor, position: Tensor, reference: Tensor, spatial_shapes: Tensor, padding_mask: Tensor | None
    ) -> Tensor:
        """tokens: (B, T, S, C). Returns (B, T, S, C)."""
        update = self.attention(tokens + position, reference, tokens, spatial_shapes, padding_mask)
        return self.feed_forward(self.norm(tokens + self.dropout(update)))


class Encoder(nn.Module):
    """A stack of encoder layers. clip_length: T, where the temporal block is made for one (ClipMSDA)."""

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, config: EncoderConfig, dropout: float,
        clip_length: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(channels, num_heads, num_levels, config, dropout, clip_length)
            for _ in range(config.num_layers)
        )

    def forward(
        self, tokens: Tensor, position: Tensor, reference: Tensor, spatial_shapes: Tensor, padding_mask: Tensor | None
    ) -> Tensor:
        """tokens, position: (B, T, S, C), position's T may be 1; reference: (B, 1, S, L, 2); padding_mask: (B, S), or
        None to sample padded tokens as they are. Returns (B, T, S, C)."""
        for layer in self.layers:
            tokens = layer(tokens, position, reference, spatial_shapes, padding_mask)
        return tokens
