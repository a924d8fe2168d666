"""Multi-head attention between two sets of tokens, on top of vislab.ops.attention.

Shape letters: B batch, Q queries, K keys, M heads, D channels per head, C channels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from vislab import ops
from vislab.blocks.attention_projections import ResidualAttention


class MultiHeadAttention(ResidualAttention):
    """MHA with residual and post-norm: LayerNorm(x + MHA(x + position, keys, values)) (DeVIS Eq. 1)."""

    def forward(
        self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor, padding_mask: Tensor | None = None
    ) -> Tensor:
        """x: (B, Q, C); position: broadcastable to x, added to the queries; keys, values: (B, K, C).

        padding_mask: (B, K) bool, True where nothing may be attended. Returns (B, Q, C).
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            self._split_heads(functional.linear(tokens, weight, bias))
            for tokens, weight, bias in zip((x + position, keys, values), weights, biases, strict=True)
        )
        mask = None if padding_mask is None else ~padding_mask[:, None, None]
        return self._add(x, ops.attention(query, key, value, mask=mask, dropout=self._weight_dropout))
