"""Plain feed-forward pieces shared by encoders, decoders and heads."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Transformer feed-forward network with residual and post-norm: LayerNorm(x + W2 relu(W1 x))."""

    def __init__(self, channels: int, hidden_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden_channels)
        self.linear2 = nn.Linear(hidden_channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., C). Returns (..., C)."""
        update = self.linear2(self.dropout(self.linear1(x).relu()))
        return self.norm(x + self.dropout(update))


class MLP(nn.Module):
    """Linear layers with ReLU between them (Carion et al., DETR: the box head)."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int) -> None:
        super().__init__()
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [out_channels]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in_channels). Returns (..., out_channels)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        return last(x)
