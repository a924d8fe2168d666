"""Dynamic convolution of region features by the queries they belong to.

Shape letters: n regions, P places of a region (size * size), C channels, D inner channels.
"""

from __future__ import annotations

from torch import Tensor, nn


class DynamicConvolution(nn.Module):
    """Dynamic convolution, Sun et al., Sparse R-CNN (arXiv 2011.12450) section 3.2: each query makes two 1x1 layers.

    C -> D -> C over the places of the query's region, with layer norm and ReLU after each; the layers have no bias.
    num_places: with it, all places are projected to one vector per region; None leaves the map as it is. Parameters of
    the first layer come first, each stored input channel by output channel (TeViT mmdet/models/utils/transformer.py).
    """

    def __init__(self, channels: int, inner_channels: int, num_places: int | None = None) -> None:
        super().__init__()
        self.inner_channels = inner_channels
        self.parameter_layer = nn.Linear(channels, 2 * channels * inner_channels)
        self.inner_norm = nn.LayerNorm(inner_channels)
        self.outer_norm = nn.LayerNorm(channels)
        self.projection = None if num_places is None else nn.Linear(num_places * channels, channels)
        self.projection_norm = None if num_places is None else nn.LayerNorm(channels)

    def forward(self, queries: Tensor, regions: Tensor) -> Tensor:
        """queries: (n, C). regions: (n, P, C). Returns (n, C) with a projection, else (n, P, C)."""
        reduce, expand = self.parameter_layer(queries).chunk(2, dim=-1)
        features = self.inner_norm(regions @ reduce.unflatten(-1, (-1, self.inner_channels))).relu()
        features = self.outer_norm(features @ expand.unflatten(-1, (self.inner_channels, -1))).relu()
        if self.projection is None or self.projection_norm is None:
            return features
        return self.projection_norm(self.projection(features.flatten(1))).relu()
