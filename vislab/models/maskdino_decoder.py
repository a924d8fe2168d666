"""MaskDINO's decoder: boxes as queries' positions, refined from layer to layer (Li et al., MaskDINO; DAB-DETR, DINO).

Shape letters: F frames, Q queries, L levels, C channels, S tokens of all levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vislab.blocks.box_refinement import refine
from vislab.blocks.feed_forward import MLP, FeedForward
from vislab.blocks.masked_attention import MaskedCrossAttention
from vislab.blocks.position_encoding import sine_encoding
from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig
from vislab.models.encoder import Memory


@dataclass(frozen=True)
class MaskDINODecoderConfig:
    """num_layers: 9 in the release, 6 in RefineVIS with ResNet-50 (its section 4.1)."""

    num_layers: int = 9
    feed_forward_channels: int = 2048
    spatial: SpatialMSDAConfig = SpatialMSDAConfig()


class DecoderOutput(NamedTuple):
    """After a layer. queries: (F, Q, C), normalised. boxes: (F, Q, 4) cxcywh in [0, 1] of the padded image."""

    queries: Tensor
    boxes: Tensor


def box_position(boxes: Tensor, channels: int) -> Tensor:
    """Sines of y, x, w and h, C / 2 each: (..., 4) cxcywh to (..., 2 C) (maskdino/utils/utils.py,
    gen_sineembed_for_position)."""
    return sine_encoding(boxes[..., [1, 0, 2, 3]] * 2 * math.pi, channels // 2).flatten(-2)


class MaskDINODecoderLayer(nn.Module):
    """Self-attention, deformable attention into the frame, feed-forward; post-norm."""

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, config: MaskDINODecoderConfig, dropout: float
    ) -> None:
        super().__init__()
        self.self_attention = MaskedCrossAttention(channels, num_heads, dropout)
        self.cross_attention = SpatialMSDA(channels, num_heads, num_levels, config.spatial)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, dropout)

    def forward(
        self, queries: Tensor, position: Tensor, reference: Tensor, memory: Memory, mask: Tensor | None
    ) -> Tensor:
        """queries, position: (F, Q, C); reference: (F, 1, Q, L, 4); mask: (F, Q, Q) bool, True: may attend."""
        queries = self.self_attention(queries, position, queries, position, mask)
        attending = (queries + position)[:, None]
        update = self.cross_attention(attending, reference, memory.tokens, memory.spatial_shapes, memory.padding_mask)
        return self.feed_forward(self.norm(queries + self.dropout(update[:, 0])))


class MaskDINODecoder(nn.Module):
    """Decoder layers around one box head, which also proposes the first boxes."""

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, config: MaskDINODecoderConfig, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MaskDINODecoderLayer(channels, num_heads, num_levels, config, dropout) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.position_head = MLP(2 * channels, channels, channels, 2)
        self.box_head = MLP(channels, channels, 4, 3)
        for parameter in list(self.box_head.parameters())[-2:]:
            nn.init.zeros_(parameter)

    def forward(self, queries: Tensor, boxes: Tensor, memory: Memory, mask: Tensor | None) -> list[DecoderOutput]:
        """queries: (F, Q, C). boxes: (F, Q, 4), where they start. Returns one output per layer.

        The boxes of a layer refine those of the one before with their gradient ("look forward twice", DINO), while the
        layer itself gets them without (dino_decoder.py:130-163, maskdino_decoder.py:330-350).
        """
        channels, outputs, start = queries.shape[-1], [], boxes
        for layer in self.layers:
            reference = start.detach()
            on_levels = memory.on_levels(reference[:, None])
            position = self.position_head(box_position(on_levels[:, 0, :, 0], channels).to(queries))
            queries = layer(queries, position, on_levels, memory, mask)
            normalised = self.norm(queries)
            outputs.append(DecoderOutput(normalised, refine(self.box_head(normalised), start)))
            start = refine(self.box_head(queries), reference)
        return outputs


def frame_memory(levels: list[Tensor]) -> tuple[Memory, list[tuple[int, int]]]:
    """Tokens of levels (F, C, H_l, W_l) in the order given, nothing padded, and the levels' sizes."""
    shapes = [(level.shape[-2], level.shape[-1]) for level in levels]
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
    ratios = tokens.new_ones(len(tokens), len(levels), 2)
    return Memory(tokens[:, None], None, ratios, torch.tensor(shapes)), shapes
