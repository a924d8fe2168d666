"""Calls of the native CPU kernel: tensors in, tensors out.

Shape letters: B batch, T frames, Q queries, F source frames, L levels, P points, M heads, D channels per head,
S sum of height * width over levels.
"""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import torch
from torch import Tensor

from vislab.ops.native import native_kernel

Levels = tuple[tuple[int, int], ...]
Frames = tuple[tuple[int, ...], ...]


def obstacle(value: Tensor) -> str | None:
    """Why the kernel cannot take this value, in one clause; None where it can."""
    if value.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"value is {value.dtype}, the kernel takes torch.float32, torch.bfloat16 and torch.float16"
    if prod(value.shape[2:]) >= 2**31:
        return f"one frame of value has {prod(value.shape[2:])} numbers, the kernel's limit is 2**31 - 1"
    kernel = native_kernel()
    return None if kernel.library is not None else kernel.reason


def forward(
    value: Tensor, levels: Levels, frames: Frames, reference: Tensor | None, coordinates: Tensor, scores: Tensor
) -> Tensor:
    """value (B, T, S, M, D), coordinates (B, T, Q, M, F, L, P, 2), scores (B, T, Q, M, F, L, P) -> (B, T, Q, M * D).

    Without a reference, coordinates are locations and scores are weights; with one, (B, T, Q, F, L, 2 or 4) float32,
    they are offsets and logits. Half precision is widened here: the kernel computes in float32.
    """
    inputs = [tensor.float().contiguous() for tensor in (value, coordinates, scores)]
    output = inputs[0].new_empty((*coordinates.shape[:3], value.shape[3] * value.shape[4]))
    _call(_library().vislab_deform_attn_forward, levels, frames, reference, inputs, [output])
    return output.to(value.dtype)


def backward(
    grad_output: Tensor,
    value: Tensor,
    levels: Levels,
    frames: Frames,
    reference: Tensor | None,
    coordinates: Tensor,
    scores: Tensor,
    *,
    location_gradients: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, coordinates and scores; always deterministic.

    With `location_gradients` the second one is with respect to locations in the fused form, too.
    """
    inputs = [tensor.float().contiguous() for tensor in (value, coordinates, scores)]
    upstream = grad_output.float().contiguous()
    grads = [torch.empty_like(tensor) for tensor in inputs]
    outputs = [upstream, *grads]
    _call(_library().vislab_deform_attn_backward, levels, frames, reference, inputs, outputs, int(location_gradients))
    grad_value, grad_coordinates, grad_scores = (grad.to(value.dtype) for grad in grads)
    return grad_value, grad_coordinates, grad_scores


def _library() -> ctypes.CDLL:
    library = native_kernel().library
    assert library is not None, "the caller has asked for obstacles"
    return library


def _call(
    function: Any,
    levels: Levels,
    frames: Frames,
    reference: Tensor | None,
    inputs: list[Tensor],
    outputs: list[Tensor],
    *flags: int,
) -> None:
    value, coordinates, scores = inputs
    sizes = (*value.shape, scores.shape[2], *scores.shape[4:])
    tables = [_integers(sizes), _integers(sum(levels, ())), _integers(sum(frames, ()))]
    layout = None if reference is None else _integers((*reference.stride()[:4], reference.shape[-1]))
    pointers = [tensor.data_ptr() for tensor in inputs]
    pointers.append(0 if reference is None else reference.data_ptr())
    # Threads do not change the result; a call of less than some ten microseconds is not worth a second one.
    threads = max(1, min(torch.get_num_threads(), scores.numel() * value.shape[-1] >> 16))
    function(*tables, *pointers, layout, *(tensor.data_ptr() for tensor in outputs), *flags, threads)


def _integers(numbers: tuple[int, ...]) -> ctypes.Array:
    return (ctypes.c_int64 * len(numbers))(*numbers)
