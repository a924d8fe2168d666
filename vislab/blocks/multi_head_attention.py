"""Multi-head dot-product attention on top of vislab.ops.attention.

Shape letters: B batch, Q queries, M heads, D channels per head, C channels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from vislab import ops
from vislab.blocks.attention_projections import ResidualAttention


class MultiHeadSelfAttention(ResidualAttention):
    """Self-attention with residual and post-norm: LayerNorm(x + MHA(x + position, x + position, x))."""

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        """x: (B, Q, C). position: broadcastable to x, added to queries and keys only. Returns (B, Q, C)."""
        attended = x if position is None else x + position
        sizes = (2 * x.shape[-1], x.shape[-1])
        (attended_weight, value_weight), (attended_bias, value_bias) = (
            parameter.split(sizes) for parameter in (self.in_proj_weight, self.in_proj_bias)
        )
        query, key = functional.linear(attended, attended_weight, attended_bias).chunk(2, dim=-1)
        value = functional.linear(x, value_weight, value_bias)
        heads = (self._split_heads(part) for part in (query, key, value))
        return self._add(x, ops.attention(*heads, dropout=self._weight_dropout))
