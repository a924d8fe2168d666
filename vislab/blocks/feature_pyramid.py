"""Feature pyramid network.

Shape letters: N images, C channels, H_l W_l size of level l.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class FeaturePyramid(nn.Module):
    """FPN, Lin et al. (arXiv 1612.03144) section 3: 1x1 laterals, nearest top-down upsampling, 3x3 smoothing.

    Biases, no norms and no extra levels, as TeViT has it (configs/tevit/tevit_r50.py).
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        for convolution in (*self.lateral, *self.smooth):
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """levels: maps (N, C_l, H_l, W_l), finest first, of any sizes. Returns as many (N, C, H_l, W_l)."""
        maps = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for index in range(len(maps) - 2, -1, -1):
            size = maps[index].shape[-2:]
            maps[index] = maps[index] + functional.interpolate(maps[index + 1], size=size, mode="nearest")
        return [smooth(feature) for smooth, feature in zip(self.smooth, maps, strict=True)]
