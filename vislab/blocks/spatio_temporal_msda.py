"""Deformable attention with a temporal slot: STJ-MSDA (TAFormer section 3.2), TMSDA (DeVIS Eq. 3), plain S-MSDA.

Shape letters: B batch, T frames, Q queries, F source frames, L levels, C channels, S sum of H*W over levels.
"""

from __future__ import annotations

from torch import Tensor, nn

from vislab.blocks.clip_msda import ClipMSDA, ClipMSDAConfig
from vislab.blocks.fusion import FusionConfig
from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig
from vislab.blocks.temporal_msda import TemporalMSDA, TemporalMSDAConfig

TemporalConfig = TemporalMSDAConfig | ClipMSDAConfig


class SpatioTemporalMSDA(nn.Module):
    """STJ-MSDA: S-MSDA and T-MSDA of the same queries, fused (TAFormer Eq. 1-5); with ClipMSDA it is DeVIS' TMSDA
    under one softmax, and without a temporal block it is S-MSDA.

    Args:
        temporal: a ClipMSDAConfig of no points, or for a clip of one frame, counts as None.
        fusion: of T-MSDA's output with S-MSDA's; ClipMSDA needs none.
        clip_length: T, which ClipMSDA over all frames needs; UserError without it.
    """

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, spatial: SpatialMSDAConfig,
        temporal: TemporalConfig | None, fusion: FusionConfig, clip_length: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spatial = SpatialMSDA(channels, num_heads, num_levels, spatial)
        self.temporal: TemporalMSDA | ClipMSDA | None = None
        self.fusion: nn.Module | None = None
        if isinstance(temporal, ClipMSDAConfig):
            slots = temporal.slots(clip_length) if temporal.num_points else 0
            if slots:
                self.temporal = ClipMSDA(channels, slots, self.spatial, temporal)
        elif temporal is not None:
            self.temporal = TemporalMSDA(channels, num_heads, num_levels, temporal)
            self.fusion = fusion.build(channels)

    def forward(
        self, query: Tensor, reference: Tensor, memory: Tensor, spatial_shapes: Tensor, padding_mask: Tensor | None,
        other_reference: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """query, memory: (B, T, Q or S, C). reference: (B, T or 1, Q, L, 2 or 4). padding_mask: (B, S), None leaves
        padded values as they are. other_reference: (B, T or 1, Q, F or 1, L, 2 or 4), reference points on the other
        frames; None: the temporal block's own choice. Returns (B, T, Q, C)."""
        value = self.spatial.project_value(memory, padding_mask)
        if isinstance(self.temporal, ClipMSDA):
            samples = self.temporal(query, reference, value, spatial_shapes, self.spatial, other_reference)
            return self.spatial.output_proj(samples)
        intra = self.spatial.output_proj(self.spatial.sample(query, reference, value, spatial_shapes))
        if self.temporal is None or self.fusion is None:
            return intra
        inter = self.temporal(
            query, reference, memory, value, spatial_shapes, padding_mask, self.spatial, other_reference
        )
        return self.fusion(intra, inter)
