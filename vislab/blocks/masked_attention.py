"""Masked cross-attention: a query attends only where it sees its object (Mask2Former; IFR Eq. 1).

Shape letters: B batch, Q queries, K keys, M heads, D channels per head, C channels, h w mask size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vislab import ops
from vislab.blocks.attention_projections import ResidualAttention

MaskMode = Literal["neg_inf", "multiply"]


@torch.no_grad()
def foreground(mask_logits: Tensor) -> Tensor:
    """Where masks leave attention open: sigmoid of at least 0.5, without gradient. (..., h, w) -> (..., h * w) bool.

    Source: Mask2Former mask2former_video/modeling/transformer_decoder/video_mask2former_transformer_decoder.py:458.
    """
    return mask_logits.flatten(-2).sigmoid() >= 0.5


def multiplied_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax((query key^T * mask) / sqrt(D)) value: IFR Eq. 1 as printed.

    A blocked key keeps the weight of a zero logit; where all are blocked, all weigh the same. query: (B, M, Q, D); key,
    value: (B, M, K, D); mask: broadcastable to (B, M, Q, K). Returns (B, M, Q, D).
    """
    logits = query @ key.transpose(-2, -1) * mask * query.shape[-1] ** -0.5
    return functional.dropout(logits.softmax(-1), dropout) @ value


class MaskedCrossAttention(ResidualAttention):
    """Cross-attention with residual and post-norm: LayerNorm(x + MHA(x + position, keys, values)), keys masked.

    Args:
        mask_mode: "neg_inf" gives blocked keys no weight, as IFR's baseline does (Mask2Former); "multiply" is IFR
            Eq. 1 as printed, but for a query that is blocked everywhere: in both modes it attends as without a mask,
            where Eq. 1 gives all keys the same weight. No effect on calls without a mask.
    """

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0, mask_mode: MaskMode = "neg_inf") -> None:
        super().__init__(channels, num_heads, dropout)
        self.mask_mode = mask_mode

    def project_memory(self, memory: Tensor, position: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values of the heads. memory: (..., K, C); position: broadcastable to it, added for the keys only.
        Returns two (..., M, K, D)."""
        _, key_weight, value_weight = self.in_proj_weight.chunk(3)
        _, key_bias, value_bias = self.in_proj_bias.chunk(3)
        key = functional.linear(memory if position is None else memory + position, key_weight, key_bias)
        return self._split_heads(key), self._split_heads(functional.linear(memory, value_weight, value_bias))

    def attend(
        self, x: Tensor, position: Tensor | None, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """x: (B, Q, C); position: broadcastable to it. key, value: (B, M, K, D) from `project_memory`. mask:
        (B, Q, K) bool, True where a query may attend; a row without any True is opened. Returns (B, Q, C)."""
        query_weight, query_bias = self.in_proj_weight.chunk(3)[0], self.in_proj_bias.chunk(3)[0]
        query = functional.linear(x if position is None else x + position, query_weight, query_bias)
        return self._add(x, self._attention(self._split_heads(query), key, value, mask))

    def forward(
        self, x: Tensor, position: Tensor | None, memory: Tensor, memory_position: Tensor | None,
        mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x: (B, Q, C). memory: (B, K, C). mask: (B, Q, K) bool or None. Returns (B, Q, C)."""
        return self.attend(x, position, *self.project_memory(memory, memory_position), mask)

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        dropout = self._weight_dropout
        if mask is None:
            return ops.attention(query, key, value, dropout=dropout)
        # video_mask2former_transformer_decoder.py:407: an object that is seen nowhere looks everywhere
        opened = (mask | ~mask.any(-1, keepdim=True))[:, None]
        if self.mask_mode == "multiply":
            return multiplied_attention(query, key, value, opened, dropout)
        return ops.attention(query, key, value, mask=opened, dropout=dropout)
