"""DeVIS' decoder: queries of all frames, those of equal index forming a trajectory; with one frame Deformable DETR's.

Caelles et al., "DeVIS: Making Deformable Transformers Work for Video Instance Segmentation", sections 3.1-3.3.

Shape letters: B batch, T frames, Q queries per frame, F source frames, L levels, P points, M heads, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vislab.blocks.attended_points import AttendedPoints, attended_points
from vislab.blocks.box_refinement import box_heads, refine
from vislab.blocks.clip_msda import ClipMSDAConfig, reference_on_frames
from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.fusion import DynamicAttentionFusionConfig, FusionConfig
from vislab.blocks.multi_head_attention import MultiHeadSelfAttention
from vislab.blocks.spatial_msda import SpatialMSDAConfig
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA, TemporalConfig
from vislab.models.encoder import Memory


@dataclass(frozen=True)
class TrajectoryDecoderConfig:
    """Trajectory decoder.

    spatial.num_points: K_curr. temporal: TMSDA (K_temp), T-MSDA (then with `fusion`), or None: every frame's queries
    look at their own frame. instance_aware: on other frames they look where the same trajectory is predicted to be
    there, otherwise where it is in their own frame. detach_reference: boxes pass no gradient on to earlier layers
    (Deformable DETR; DeVIS: BBX_GRADIENT_PROP True lets them).
    """

    num_layers: int = 6
    feed_forward_channels: int = 1024
    spatial: SpatialMSDAConfig = SpatialMSDAConfig()
    temporal: TemporalConfig | None = ClipMSDAConfig()
    fusion: FusionConfig = DynamicAttentionFusionConfig()
    instance_aware: bool = True
    detach_reference: bool = False


class TrajectoryLayerOutput(NamedTuple):
    """queries: (B, T, Q, C); reference: (B, T, Q, 2 or 4) that the layer started from; refined: (B, T, Q, 4) its boxes,
    cxcywh in [0, 1], with gradient."""

    queries: Tensor
    reference: Tensor
    refined: Tensor


class TrajectoryDecoderLayer(nn.Module):
    """Self-attention among the queries of all frames, deformable attention into the frames, feed-forward; post-norm."""

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, config: TrajectoryDecoderConfig, dropout: float,
        clip_length: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.instance_aware = config.instance_aware
        self.self_attention = MultiHeadSelfAttention(channels, num_heads, dropout)
        self.cross_attention = SpatioTemporalMSDA(
            channels, num_heads, num_levels, config.spatial, config.temporal, config.fusion, clip_length
        )
        self.norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, config.feed_forward_channels, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, position: Tensor, reference: Tensor, memory: Memory) -> Tensor:
        """queries: (B, T, Q, C); position: (T, Q, C); reference: (B, T, Q, L, 2 or 4). Returns (B, T, Q, C)."""
        queries = self.exchange(queries, position)
        update = self.cross_attention(
            queries + position, reference, memory.tokens, memory.spatial_shapes, memory.padding_mask,
            self.other_reference(reference),
        )  # fmt: skip
        return self.feed_forward(self.norm(queries + self.dropout(update)))

    def exchange(self, queries: Tensor, position: Tensor) -> Tensor:
        """Joint self-attention of the T * Q queries of a clip. queries: (B, T, Q, C); position: (T, Q, C)."""
        return self.self_attention(queries.flatten(1, 2), position.flatten(0, 1)).view_as(queries)

    def other_reference(self, reference: Tensor) -> Tensor | None:
        """reference: (B, T, Q, L, 2 or 4). Returns (B, T, Q, F or 1, L, 2 or 4) on the other frames, None if none."""
        temporal = self.cross_attention.temporal
        if temporal is None:
            return None
        if not self.instance_aware:
            return reference.unsqueeze(3)
        return reference_on_frames(reference, temporal.source_frames(reference.shape[1]))

    def attended_points(self, queries: Tensor, position: Tensor, reference: Tensor, memory: Memory) -> AttendedPoints:
        """Where forward, given the same, samples and with which weights."""
        attending = self.exchange(queries, position) + position
        other_reference = self.other_reference(reference)
        return attended_points(self.cross_attention, attending, reference, memory.spatial_shapes, other_reference)


class TrajectoryDecoder(nn.Module):
    """Decoder layers with box refinement: before each layer the boxes of a trajectory are known on all frames."""

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, config: TrajectoryDecoderConfig, dropout: float,
        clip_length: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.detach_reference = config.detach_reference
        self.layers = nn.ModuleList(
            TrajectoryDecoderLayer(channels, num_heads, num_levels, config, dropout, clip_length)
            for _ in range(config.num_layers)
        )
        self.box_heads = box_heads(channels, config.num_layers)

    def forward(
        self, content: Tensor, position: Tensor, reference: Tensor, memory: Memory
    ) -> list[TrajectoryLayerOutput]:
        """content, position: (T, Q, C); reference: (T, Q, 2) in [0, 1]. Returns one output per layer."""
        batch = memory.tokens.shape[0]
        queries, reference = (part.expand(batch, -1, -1, -1) for part in (content, reference))
        outputs = []
        for layer, box_head in zip(self.layers, self.box_heads, strict=True):
            queries = layer(queries, position, memory.on_levels(reference), memory)
            refined = refine(box_head(queries), reference)
            outputs.append(TrajectoryLayerOutput(queries, reference, refined))
            reference = refined.detach() if self.detach_reference else refined
        return outputs

    @torch.no_grad()
    def attended_points(
        self, content: Tensor, position: Tensor, reference: Tensor, memory: Memory
    ) -> list[AttendedPoints]:
        """What every layer of `forward`, given the same, samples; in evaluation mode, without dropout."""
        outputs = self(content, position, reference, memory)
        starts = [content.expand_as(outputs[0].queries), *(output.queries for output in outputs[:-1])]
        points = []
        for layer, queries, output in zip(self.layers, starts, outputs, strict=True):
            assert isinstance(layer, TrajectoryDecoderLayer)
            points.append(layer.attended_points(queries, position, memory.on_levels(output.reference), memory))
        return points
