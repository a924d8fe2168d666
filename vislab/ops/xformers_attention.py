"""xformers' memory_efficient_attention under the conventions of `vislab.ops.attention`.

What its kernels ask for is read from facebookresearch/xformers v0.0.35, xformers/ops/fmha/__init__.py, common.py and
cutlass.py. Shape letters: B batch, M heads, Q queries, K keys, D channels per head.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vislab.errors import UserError

DEVICE_TYPE = "cuda"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_ALIGNMENT = 8  # elements: 16 bytes in half precision; float32 would do with 4
_EXTRA = "pip install -e '.[xformers]'"


def xformers_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Attention of (B, M, Q, D), (B, M, K, D) and (B, M, K, D') tensors, none of them empty; returns (B, M, Q, D').

    mask: None or 4-dimensional, broadcastable to (B, M, Q, K), bool or additive; every row has a key to attend to.

    Raises UserError where xformers has no kernel for such tensors on this device.
    """
    kernel = load_kernel(query)
    batch, heads, queries, channels = query.shape
    bias = None if mask is None else _bias(mask, (batch, heads, queries, key.shape[2]), query.dtype)
    if bias is not None and bias.requires_grad and not any(x.requires_grad for x in (query, key, value)):
        # xformers records a graph only where one of these three asks for it, and would leave the mask without gradient.
        query = query.detach().requires_grad_()
    rows = (_aligned(x.transpose(1, 2)) for x in (query, key, value))
    try:
        # The scale is that of the true D: zeros that fill up D change no product.
        output = kernel(*rows, attn_bias=bias, p=dropout, scale=channels**-0.5)
    except NotImplementedError as error:
        found = f"{_names([query.dtype])}, D = {channels}, D' = {value.shape[-1]}, dropout {dropout}"
        found += ", no mask" if mask is None else ", a mask"
        reasons = re.sub(r"^.* p : \S+ ", "", _one_line(error))  # what follows its own description of the tensors
        raise UserError(f'attention: backend="xformers" found {found}, and has no kernel for it: {reasons}') from error
    return output[..., : value.shape[-1]].transpose(1, 2)


def load_kernel(query: Tensor) -> Callable[..., Tensor]:
    """memory_efficient_attention, imported on first use (it takes seconds).

    Raises UserError where `query` has the wrong device or dtype, or xformers is missing or broken.
    """
    if query.device.type != DEVICE_TYPE:
        raise UserError(f'attention: backend="xformers" found tensors on {query.device}, expected {DEVICE_TYPE}')
    if query.dtype not in DTYPES:
        raise UserError(f'attention: backend="xformers" found {query.dtype}, expected one of {_names(DTYPES)}')
    if importlib.util.find_spec("xformers") is None:
        raise UserError(f'attention: backend="xformers" found no such package, expected it: {_EXTRA}')
    try:
        return importlib.import_module("xformers.ops").memory_efficient_attention
    except Exception as error:  # a build for another torch fails in whatever way its libraries do
        raise UserError(
            f'attention: backend="xformers" found an xformers that does not import ({type(error).__name__}: '
            f"{_one_line(error)}), expected a build for torch {torch.__version__}"
        ) from error


def xformers_status() -> tuple[bool, str]:
    """Whether backend="xformers" can run here, and the reason. Imports xformers only if it is there and CUDA is too."""
    if importlib.util.find_spec("xformers") is None:
        return False, f"not installed ({_EXTRA})"
    if not torch.cuda.is_available():
        return False, "installed, but there is no CUDA device and it has no CPU path"
    runs, refusal = [], ""
    for dtype in DTYPES:
        probe = torch.zeros(1, 1, _ALIGNMENT, _ALIGNMENT, dtype=dtype, device=DEVICE_TYPE)
        try:
            xformers_attention(probe, probe, probe, None, 0.0)
        except (UserError, RuntimeError) as error:
            refusal = refusal or str(error)
        else:
            runs.append(dtype)
    return bool(runs), f"runs {_names(runs)}" if runs else refusal


def _bias(mask: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The mask as the additive (B, M, Q, K) tensor that the kernels read: rows of K aligned, the rest views."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, float("-inf"))
    keys = shape[-1]
    return _in_aligned_rows(mask.expand(*mask.shape[:-1], keys))[..., :keys].expand(shape)


def _aligned(x: Tensor) -> Tensor:
    """x itself where the kernels can read it in place, else a copy with the last dimension filled up with zeros."""
    steps = (x.shape[-1], x.storage_offset(), *x.stride()[:-1])
    readable = x.stride(-1) == 1 and all(step % _ALIGNMENT == 0 for step in steps)
    return x if readable else _in_aligned_rows(x)


def _in_aligned_rows(x: Tensor) -> Tensor:
    # Written into a fresh buffer, since clone and pad may keep the memory order of x.
    size = x.shape[-1]
    buffer = x.new_zeros(*x.shape[:-1], size + -size % _ALIGNMENT)
    buffer[..., :size] = x
    return buffer


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
