"""Fusion of spatial and temporal attention: dynamic attention fusion and its rivals (TAFormer Eq. 3-5, Table 4).

Shape letters: B batch, T frames, Q queries, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AdditionConfig:
    """Element-wise addition (Table 4, first row)."""

    def build(self, channels: int) -> Addition:
        return Addition()


@dataclass(frozen=True)
class ConcatenationConfig:
    """Concatenation and a linear projection back to C (Table 4, second row; the projection is our reading)."""

    def build(self, channels: int) -> Concatenation:
        return Concatenation(channels)


@dataclass(frozen=True)
class DynamicAttentionFusionConfig:
    """Dynamic attention fusion. hidden_channels: width of the first layer (not stated; 32 fits Table 7's counts)."""

    hidden_channels: int = 32

    def build(self, channels: int) -> DynamicAttentionFusion:
        return DynamicAttentionFusion(channels, self.hidden_channels)


FusionConfig = AdditionConfig | ConcatenationConfig | DynamicAttentionFusionConfig


class Addition(nn.Module):
    """E^intra + E^inter."""

    def forward(self, intra: Tensor, inter: Tensor) -> Tensor:
        """intra, inter: (B, T, Q, C). Returns the same shape."""
        return intra + inter


class Concatenation(nn.Module):
    """W [E^intra, E^inter] + b. Starts at the mean of both, so that pre-trained layers still see their own scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * channels, channels)
        with torch.no_grad():
            self.projection.weight.copy_(torch.cat((torch.eye(channels), torch.eye(channels)), dim=1) / 2)
            self.projection.bias.zero_()

    def forward(self, intra: Tensor, inter: Tensor) -> Tensor:
        """intra, inter: (B, T, Q, C). Returns the same shape."""
        return self.projection(torch.cat((intra, inter), dim=-1))


class DynamicAttentionFusion(nn.Module):
    """DAF: gates decide per query and channel between spatial and temporal attention (TAFormer Eq. 3-5).

    E' = E^intra + E^inter passes one layer with ReLU, two layers give g1 and g2, and (w1, w2) is their softmax, taken
    between the two gates for every channel (Eq. 4). No pooling is written in the paper, and none is done.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, hidden_channels)
        self.gate_intra = nn.Linear(hidden_channels, channels)
        self.gate_inter = nn.Linear(hidden_channels, channels)

    def forward(self, intra: Tensor, inter: Tensor) -> Tensor:
        """intra, inter: (B, T, Q, C). Returns the same shape."""
        hidden = self.reduce(intra + inter).relu()
        # exp(g1) / (exp(g1) + exp(g2)) is a sigmoid of the difference, which cannot overflow
        weight_intra = (self.gate_intra(hidden) - self.gate_inter(hidden)).sigmoid()
        return torch.lerp(inter, intra, weight_intra)
