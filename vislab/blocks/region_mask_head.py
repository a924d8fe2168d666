"""Mask branch of query-based region heads.

Shape letters: n regions, P places of a region (size * size), C channels, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.dynamic_conv import DynamicConvolution


@dataclass(frozen=True)
class RegionMaskHeadConfig:
    """Mask branch. region_size: bins of its RoIAlign; masks are twice that wide. norm: "batch" as released, or "group",
    which does not depend on what else is in the batch."""

    region_size: int = 14
    num_convolutions: int = 4
    dynamic_channels: int = 64
    norm: Literal["batch", "group"] = "batch"


class RegionMaskHead(nn.Module):
    """Mask branch of QueryInst (Fang et al., arXiv 2105.01928, section 3.2), as TeViT has it.

    Dynamic convolution by the query, 3x3 convolutions, one 2x2 transposed convolution, a logit per class
    (mmdet/models/roi_heads/mask_heads/dynamic_mask_head.py). Only the channel of the asked class is computed.
    """

    def __init__(self, channels: int, num_classes: int, config: RegionMaskHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.dynamic = DynamicConvolution(channels, config.dynamic_channels)
        layers: list[nn.Module] = []
        for _ in range(config.num_convolutions):
            norm = nn.BatchNorm2d(channels) if config.norm == "batch" else nn.GroupNorm(math.gcd(8, channels), channels)
            layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm, nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.class_logits = nn.Conv2d(channels, num_classes, 1)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        assert self.class_logits.bias is not None
        nn.init.zeros_(self.class_logits.bias)

    def forward(self, queries: Tensor, regions: Tensor, labels: Tensor) -> Tensor:
        """queries: (n, C). regions: (n, region_size^2, C). labels: (n,) int64. Returns logits (n, 2 size, 2 size)."""
        size = self.config.region_size
        if not len(queries):
            return queries.new_zeros(0, 2 * size, 2 * size)
        features = self.dynamic(queries, regions).transpose(1, 2).unflatten(2, (size, size))
        features = self.upsample(self.convolutions(features)).relu()
        assert self.class_logits.bias is not None
        weight, bias = self.class_logits.weight[labels, :, 0, 0], self.class_logits.bias[labels]
        return torch.einsum("nc,nchw->nhw", weight, features) + bias[:, None, None]
