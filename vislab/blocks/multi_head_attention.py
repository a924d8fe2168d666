"""Multi-head dot-product attention on top of vislab.ops.attention.

Shape letters: B batch, Q queries, M heads, D channels per head, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab import ops


class MultiHeadSelfAttention(nn.Module):
    """Self-attention with residual and post-norm: LayerNorm(x + MHA(x + position, x + position, x)).

    Parameter names are those of torch.nn.MultiheadAttention, so that released checkpoints map by name.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        assert channels % num_heads == 0, f"channels {channels} not divisible by num_heads {num_heads}"
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        """x: (B, Q, C). position: broadcastable to x, added to queries and keys only. Returns (B, Q, C)."""
        attended = x if position is None else x + position
        sizes = (2 * x.shape[-1], x.shape[-1])
        (attended_weight, value_weight), (attended_bias, value_bias) = (
            parameter.split(sizes) for parameter in (self.in_proj_weight, self.in_proj_bias)
        )
        query, key = functional.linear(attended, attended_weight, attended_bias).chunk(2, dim=-1)
        value = functional.linear(x, value_weight, value_bias)
        dropout = self.dropout.p if self.training else 0.0
        update = ops.attention(*(self._split_heads(part) for part in (query, key, value)), dropout=dropout)
        update = self.out_proj(update.transpose(1, 2).flatten(2))
        return self.norm(x + self.dropout(update))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, Q, C) -> (B, M, Q, D)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
