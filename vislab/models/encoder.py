"""Deformable encoder over the tokens of all frames; with T-MSDA it is TAFormer's spatio-temporal encoder.

Shape letters: B batch, T frames, L levels, C channels, S sum of H*W over levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.fusion import DynamicAttentionFusionConfig, FusionConfig
from vislab.blocks.spatial_msda import SpatialMSDAConfig
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA
from vislab.blocks.temporal_msda import TemporalMSDAConfig


@dataclass(frozen=True)
class EncoderConfig:
    """Deformable encoder. temporal None: every frame on its own (SeqFormer); fusion acts only with temporal."""

    num_layers: int = 6
    feed_forward_channels: int = 1024
    spatial: SpatialMSDAConfig = SpatialMSDAConfig()
    temporal: TemporalMSDAConfig | None = None
    fusion: FusionConfig = DynamicAttentionFusionConfig()


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

    def __init__(self, channels: int, num_heads: int, num_levels: int, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        self.attention = SpatioTemporalMSDA(
            channels, num_heads, num_levels, config.spatial, config.temporal, config.fusion
        )
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, dropout)

    def forward(
        self, tokens: Tensor, position: Tensor, reference: Tensor, spatial_shapes: Tensor, padding_mask: Tensor
    ) -> Tensor:
        """tokens: (B, T, S, C). Returns (B, T, S, C)."""
        update = self.attention(tokens + position, reference, tokens, spatial_shapes, padding_mask)
        return self.feed_forward(self.norm(tokens + self.dropout(update)))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, channels: int, num_heads: int, num_levels: int, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(channels, num_heads, num_levels, config, dropout) for _ in range(config.num_layers)
        )

    def forward(
        self, tokens: Tensor, position: Tensor, reference: Tensor, spatial_shapes: Tensor, padding_mask: Tensor
    ) -> Tensor:
        """tokens, position: (B, T, S, C); reference: (B, 1, S, L, 2); padding_mask: (B, S). Returns (B, T, S, C)."""
        for layer in self.layers:
            tokens = layer(tokens, position, reference, spatial_shapes, padding_mask)
        return tokens
