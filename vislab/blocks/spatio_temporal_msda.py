"""STJ-MSDA: spatio-temporal joint multi-scale deformable attention (TAFormer section 3.2).

Shape letters: B batch, T frames, L levels, C channels, S sum of H*W over levels.
"""

from __future__ import annotations

from torch import Tensor, nn

from vislab.blocks.fusion import FusionConfig
from vislab.blocks.spatial_msda import SpatialMSDA, SpatialMSDAConfig
from vislab.blocks.temporal_msda import TemporalMSDA, TemporalMSDAConfig


class SpatioTemporalMSDA(nn.Module):
    """STJ-MSDA: S-MSDA and T-MSDA of the same queries, fused (TAFormer Eq. 1-5). Without T-MSDA it is S-MSDA."""

    def __init__(
        self, channels: int, num_heads: int, num_levels: int, spatial: SpatialMSDAConfig,
        temporal: TemporalMSDAConfig | None, fusion: FusionConfig,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spatial = SpatialMSDA(channels, num_heads, num_levels, spatial)
        self.temporal = None if temporal is None else TemporalMSDA(channels, num_heads, num_levels, temporal)
        self.fusion = None if temporal is None else fusion.build(channels)

    def forward(
        self, query: Tensor, reference: Tensor, memory: Tensor, spatial_shapes: Tensor, padding_mask: Tensor
    ) -> Tensor:
        """query, memory: (B, T, S, C). reference: (B, 1, S, L, 2). padding_mask: (B, S). Returns (B, T, S, C)."""
        value = self.spatial.project_value(memory, padding_mask)
        intra = self.spatial.output_proj(self.spatial.sample(query, reference, value, spatial_shapes))
        if self.temporal is None or self.fusion is None:
            return intra
        inter = self.temporal(query, reference, memory, value, spatial_shapes, padding_mask, self.spatial)
        return self.fusion(intra, inter)
