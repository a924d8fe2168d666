"""What multi-head attention has around its products: the projections, their heads, residual and post-norm.

Shape letters: B batch, Q queries, K tokens, M heads, D channels per head, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionProjections(nn.Module):
    """Projections of queries, keys and values, in this order in one parameter, and of what the heads have found.

    Parameter names are those of torch.nn.MultiheadAttention, so that released checkpoints map by name. in_proj_weight
    is filled by subclasses, after the modules that they add: seeds stand for this order of random numbers.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        assert channels % num_heads == 0, f"channels {channels} not divisible by num_heads {num_heads}"
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.zeros_(self.out_proj.bias)

    def _split_heads(self, x: Tensor) -> Tensor:
        """(..., K, C) -> (..., M, K, D)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)

    def _merge_heads(self, found: Tensor) -> Tensor:
        """What the heads have found, (B, M, Q, D), projected: (B, Q, C)."""
        return self.out_proj(found.transpose(1, 2).flatten(2))


class ResidualAttention(AttentionProjections):
    """The same with residual and post-norm: LayerNorm(x + dropout(projected)). Subclasses say who attends to what.

    dropout: of attention weights, too.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(channels, num_heads)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)

    @property
    def _weight_dropout(self) -> float:
        """For attention weights; none in evaluation."""
        return self.dropout.p if self.training else 0.0

    def _add(self, x: Tensor, found: Tensor) -> Tensor:
        """x: (B, Q, C). found: (B, M, Q, D), by the heads. Returns (B, Q, C)."""
        return self.norm(x + self.dropout(self._merge_heads(found)))
