"""SeqFormer's query-decomposed decoder, with TAFormer's temporal self-attention as an option.

An instance query is split into one box query per frame; the box queries find the instance in their frames, and the
instance query collects what they saw (Wu et al., SeqFormer, section 3.2; TAFormer section 3.4).

Shape letters: B batch, T frames, Q queries, L levels, C channels, S sum of H*W over levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from vislab.blocks.box_refinement import box_heads, refine
from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.multi_head_attention import MultiHeadSelfAttention
from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig
from vislab.blocks.temporal_self_attention import TemporalSelfAttention, TemporalSelfAttentionConfig
from vislab.models.encoder import Memory


@dataclass(frozen=True)
class DecoderConfig:
    """Query-decomposed decoder. temporal_attention None: box queries of different frames do not meet."""

    num_layers: int = 6
    feed_forward_channels: int = 1024
    spatial: SpatialMSDAConfig = SpatialMSDAConfig()
    temporal_attention: TemporalSelfAttentionConfig | None = None
    detach_reference: bool = True


class LayerOutput(NamedTuple):
    """instance: (B, Q, C); boxes: (B, T, Q, C) box queries; reference: (B, T, Q, 2 or 4) that the layer started from;
    refined: (B, T, Q, 4) its box, cxcywh in [0, 1], with gradient."""

    instance: Tensor
    boxes: Tensor
    reference: Tensor
    refined: Tensor


class DecoderLayer(nn.Module):
    """One layer; the first gets the box queries still undivided, (B, 1, Q, C)."""

    def __init__(self, channels: int, num_heads: int, num_levels: int, config: DecoderConfig, dropout: float) -> None:
        super().__init__()
        self.instance_attention = MultiHeadSelfAttention(channels, num_heads, dropout)
        self.box_attention = MultiHeadSelfAttention(channels, num_heads, dropout)
        self.cross_attention = SpatialMSDA(channels, num_heads, num_levels, config.spatial)
        self.box_output_proj = nn.Linear(channels, channels)
        self.frame_weight = nn.Linear(channels, 1)
        self.instance_norm = nn.LayerNorm(channels)
        self.box_norm = nn.LayerNorm(channels)
        self.instance_feed_forward = FeedForward(channels, config.feed_forward_channels, dropout)
        self.box_feed_forward = FeedForward(channels, config.feed_forward_channels, dropout)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.box_output_proj.weight)
        nn.init.zeros_(self.box_output_proj.bias)

    def forward(
        self, instance: Tensor, boxes: Tensor, position: Tensor, reference: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor]:
        """instance: (B, Q, C); boxes: (B, T or 1, Q, C); position: (Q, C); reference: (B, T, Q, L, 2 or 4)."""
        instance = self.instance_attention(instance, position)
        boxes = self.box_attention(boxes.flatten(0, 1), position).view_as(boxes)
        num_frames = memory.tokens.shape[1]
        value = self.cross_attention.project_value(memory.tokens, memory.padding_mask)
        query = (boxes + position).expand(-1, num_frames, -1, -1)
        samples = self.cross_attention.sample(query, reference, value, memory.spatial_shapes)
        boxes = self.box_norm(boxes + self.dropout(self.box_output_proj(samples)))
        boxes = self.box_feed_forward(boxes)
        weight = self.frame_weight(boxes).softmax(dim=1)
        seen = (self.cross_attention.output_proj(samples) * weight).sum(dim=1)
        instance = self.instance_norm(instance + self.dropout(seen))
        return self.instance_feed_forward(instance), boxes


class QueryDecoder(nn.Module):
    """Decoder layers with box refinement; every layer has its own box head."""

    def __init__(self, channels: int, num_heads: int, num_levels: int, config: DecoderConfig, dropout: float) -> None:
        super().__init__()
        self.detach_reference = config.detach_reference
        self.layers = nn.ModuleList(
            DecoderLayer(channels, num_heads, num_levels, config, dropout) for _ in range(config.num_layers)
        )
        self.box_heads = box_heads(channels, config.num_layers)
        temporal = config.temporal_attention
        # the first layer has one box query for all frames: nothing to attend to, so it has no block of its own
        count = 0 if temporal is None else min(config.num_layers - 1, 1 if temporal.shared else config.num_layers)
        self.temporal_attention = nn.ModuleList(
            TemporalSelfAttention(channels, num_heads, temporal, dropout) for _ in range(count) if temporal is not None
        )

    def forward(self, content: Tensor, position: Tensor, reference: Tensor, memory: Memory) -> list[LayerOutput]:
        """content: (B, Q, C); position: (Q, C); reference: (Q, 2) in [0, 1]. Returns one output per layer."""
        batch, num_frames = memory.tokens.shape[:2]
        reference = reference.expand(batch, num_frames, -1, -1)
        instance, boxes, outputs = content, content[:, None], []
        for index, layer in enumerate(self.layers):
            if index > 0 and len(self.temporal_attention) > 0:
                block = 0 if len(self.temporal_attention) == 1 else index - 1
                boxes = self.temporal_attention[block](boxes)
            instance, boxes = layer(instance, boxes, position, memory.on_levels(reference), memory)
            refined = refine(self.box_heads[index](boxes), reference)
            outputs.append(LayerOutput(instance, boxes, reference, refined))
            reference = refined.detach() if self.detach_reference else refined
        return outputs
