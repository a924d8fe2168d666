"""Multi-head attention between two sets of tokens, on top of vislab.ops.attention.

Shape letters: B batch, Q queries, K keys, M heads, D channels per head, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab import ops


class MultiHeadAttention(nn.Module):
    """MHA with residual and post-norm: LayerNorm(x + MHA(x + position, keys, values)) (DeVIS Eq. 1).

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

    def forward(
        self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, padding_mask: Tensor | None = None
    ) -> Tensor:
        """x: (B, Q, C); position: broadcastable to x, added to the queries; keys, values: (B, K, C).

        padding_mask: (B, K) bool, True where nothing may be attended. Returns (B, Q, C).
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            functional.linear(tokens, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for tokens, weight, bias in zip((x + position, keys, values), weights, biases, strict=True)
        )
        mask = None if padding_mask is None else ~padding_mask[:, None, None]
        dropout = self.dropout.p if self.training else 0.0
        update = ops.attention(query, key, value, mask=mask, dropout=dropout)
        return self.norm(x + self.dropout(self.out_proj(update.transpose(1, 2).flatten(2))))
