"""Dense attention behind one function.

Shape letters: B batch, M heads, Q queries, K keys, D channels per head.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

from vislab.errors import UserError


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    backend: Literal["sdpa", "reference"] = "sdpa",
) -> Tensor:
    """MHA, "Attention Is All You Need" (arXiv 1706.03762) Eq. 1: softmax(query key^T / sqrt(D) + mask) value.

    A query whose keys are all masked out attends to nothing: its result is zero in both backends.

    Args:
        query: (B, M, Q, D), floating.
        key: (B, M, K, D), in the dtype and on the device of `query`.
        value: (B, M, K, D'), likewise.
        mask: broadcastable to (B, M, Q, K); bool (True may attend) or an additive term in the dtype of `query`.
        dropout: probability in [0, 1) with which a weight is dropped; 0 outside training is the caller's affair.
        backend: "sdpa" is torch's scaled_dot_product_attention, "reference" the formula itself.

    Returns:
        (B, M, Q, D').

    Raises:
        UserError: for shapes or dtypes that do not fit, or an unknown backend.
    """
    _check(query, key, value, mask, dropout)
    if backend == "sdpa":
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    if backend == "reference":
        return _attention_reference(query, key, value, mask, dropout)
    raise UserError(f"attention: backend is {backend!r}, expected sdpa or reference")


def _attention_reference(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    nothing = scores.isneginf().all(-1, keepdim=True)
    weights = scores.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0)
    return functional.dropout(weights, dropout) @ value


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> None:
    if query.dim() != 4:
        raise UserError(f"attention: query has shape {tuple(query.shape)}, expected (B, M, Q, D)")
    batch, heads, queries, channels = query.shape
    if key.dim() != 4 or key.shape[:2] != (batch, heads) or key.shape[3] != channels:
        raise UserError(f"attention: key has shape {tuple(key.shape)}, expected ({batch}, {heads}, K, {channels})")
    keys = key.shape[2]
    if value.dim() != 4 or value.shape[:3] != key.shape[:3]:
        raise UserError(f"attention: value has shape {tuple(value.shape)}, expected ({batch}, {heads}, {keys}, D)")
    if not 0.0 <= dropout < 1.0:
        raise UserError(f"attention: dropout is {dropout}, expected a probability in [0, 1)")
    if mask is None:
        return
    target = (batch, heads, queries, keys)
    fits = mask.dim() <= 4 and all(
        have in (1, want) for have, want in zip(reversed(mask.shape), reversed(target), strict=False)
    )
    if not fits:
        raise UserError(f"attention: mask has shape {tuple(mask.shape)}, expected one that broadcasts to {target}")
    if mask.dtype not in (torch.bool, query.dtype):
        raise UserError(f"attention: mask is {mask.dtype}, expected torch.bool or {query.dtype} as query is")
