"""Dense attention behind one function.

Shape letters: B batch, M heads, Q queries, K keys, D channels per head.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

from vislab.errors import UserError
from vislab.ops.xformers_attention import load_kernel, xformers_attention, xformers_status

Backend = Literal["auto", "sdpa", "xformers", "reference"]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
) -> Tensor:
    """MHA, "Attention Is All You Need" (arXiv 1706.03762) Eq. 1: softmax(query key^T / sqrt(D) + mask) value.

    A query whose keys are all masked out, or that has none, attends to nothing: its result is zero, and so is its part
    of every gradient. Dropout drops weights after the softmax and divides those it keeps by 1 - `dropout`.

    Args:
        query: (B, M, Q, D), floating.
        key: (B, M, K, D), in the dtype and on the device of `query`; so are `value` and an additive `mask`.
        value: (B, M, K, D').
        mask: broadcastable to (B, M, Q, K); bool (True may attend), or an additive term, which may require a gradient
            and in which negative infinity excludes.
        dropout: probability in [0, 1) with which a weight is dropped; 0 outside training is the caller's affair.
        backend: "sdpa" is torch's scaled_dot_product_attention, which chooses among kernels of its own, and is what
            "auto" takes; "xformers" is memory_efficient_attention, on CUDA only, and an error where it cannot run;
            "reference" is the formula itself, differentiable twice.

    Returns:
        (B, M, Q, D') in the dtype of `query`; under autocast inputs are cast as torch casts those of its own attention.

    Raises:
        UserError: for shapes, dtypes or devices that do not fit, or a backend that cannot run.
    """
    query, key, value = map(_autocast, (query, key, value))
    mask = None if mask is None else _autocast(mask)
    _check_shapes(query, key, value, mask)
    _check_types(query, key, value, mask)
    if not 0.0 <= dropout < 1.0:
        raise UserError(f"attention: dropout is {dropout}, expected a probability in [0, 1)")
    if backend not in _COMPUTE:
        raise UserError(f"attention: backend is {backend!r}, expected one of {', '.join(_COMPUTE)}")
    compute = _COMPUTE[backend]
    if backend == "xformers":
        load_kernel(query)  # tells why it cannot run, even where there is nothing to compute
    if 0 in (query.numel(), key.numel(), value.numel()):
        compute = _attention_reference  # a launch over nothing is an error of some kernels
    if mask is None:
        return compute(query, key, value, None, dropout)
    mask, dead = _without_dead_rows(mask[(None,) * (4 - mask.dim())])
    return compute(query, key, value, mask, dropout).masked_fill(dead, 0.0)


def attention_backends() -> list[tuple[str, bool, str]]:
    """The backends as (name, can run here, reason). Imports xformers only where it is installed and there is CUDA."""
    return [
        ("sdpa", True, "torch's own, every device and floating dtype; the default"),
        ("xformers", *xformers_status()),
        ("reference", True, "the formula in torch, every device and floating dtype"),
    ]


def _without_dead_rows(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The mask with its fully masked rows opened, and which those are: (..., 1), True where nothing may be attended.

    Kernels differ in what such a row gives, and several give NaN in backward. Opened, it is a row like any other, and
    the caller overwrites its result, which also makes its gradients exactly zero.
    """
    if mask.dtype == torch.bool:
        dead = ~mask.any(-1, keepdim=True)
        return mask | dead, dead
    dead = mask.isneginf().all(-1, keepdim=True)
    return mask.masked_fill(dead, 0.0), dead


def _attention_reference(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return functional.dropout(scores.softmax(-1), dropout) @ value


def _attention_sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


_COMPUTE = {
    "auto": _attention_sdpa,
    "sdpa": _attention_sdpa,
    "xformers": xformers_attention,
    "reference": _attention_reference,
}


def _autocast(x: Tensor) -> Tensor:
    """x as torch would hand it to its own attention: in autocast's dtype, unless x is float64 or no float at all."""
    device = x.device.type
    active = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    castable = x.is_floating_point() and x.dtype != torch.float64
    return x.to(torch.get_autocast_dtype(device)) if active and castable else x


def _check_shapes(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    if query.dim() != 4 or query.shape[3] < 1:
        raise UserError(f"attention: query has shape {tuple(query.shape)}, expected (B, M, Q, D) with D at least 1")
    batch, heads, queries, channels = query.shape
    if key.dim() != 4 or key.shape[:2] != (batch, heads) or key.shape[3] != channels:
        raise UserError(f"attention: key has shape {tuple(key.shape)}, expected ({batch}, {heads}, K, {channels})")
    keys = key.shape[2]
    if value.dim() != 4 or value.shape[:3] != key.shape[:3]:
        raise UserError(f"attention: value has shape {tuple(value.shape)}, expected ({batch}, {heads}, {keys}, D')")
    if mask is None:
        return
    target = (batch, heads, queries, keys)
    fits = mask.dim() <= 4 and all(
        have in (1, want) for have, want in zip(reversed(mask.shape), reversed(target), strict=False)
    )
    if not fits:
        raise UserError(f"attention: mask has shape {tuple(mask.shape)}, expected one that broadcasts to {target}")


def _check_types(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    if not query.is_floating_point():
        raise UserError(f"attention: query is {query.dtype}, expected a floating dtype")
    for name, tensor in (("key", key), ("value", value), ("mask", mask)):
        if tensor is None:
            continue
        if tensor.device != query.device:
            raise UserError(f"attention: {name} is on {tensor.device}, expected {query.device} as query is")
        if tensor.dtype != query.dtype and not (name == "mask" and tensor.dtype == torch.bool):
            allowed = "torch.bool or " if name == "mask" else ""
            raise UserError(f"attention: {name} is {tensor.dtype}, expected {allowed}{query.dtype} as query is")
