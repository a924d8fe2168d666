"""The torch operators vislab::deform_attn and vislab::deform_attn_backward: dispatch, autograd, shapes and FLOPs.

Every backend but "reference" is this one operator, whatever runs inside it, so that torch.compile, the FLOP counter
and models on the meta device see the same thing on every machine.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from vislab.errors import UserError
from vislab.ops.native import native_kernel
from vislab.ops.reference import deform_attn_reference, deform_attn_reference_backward

_INPUTS = (
    "Tensor value, Tensor spatial_shapes, Tensor frame_index, Tensor sampling_locations, Tensor attention_weights, "
    "str backend"
)
_TAGS = (torch.Tag.pt2_compliant_tag,)
torch.library.define("vislab::deform_attn", f"({_INPUTS}) -> Tensor", tags=_TAGS)
torch.library.define(
    "vislab::deform_attn_backward", f"(Tensor grad_output, {_INPUTS}) -> (Tensor, Tensor, Tensor)", tags=_TAGS
)


@torch.library.impl("vislab::deform_attn", "default")
def _forward(
    value: Tensor, spatial_shapes: Tensor, frame_index: Tensor, locations: Tensor, weights: Tensor, backend: str
) -> Tensor:
    check_contents(value, spatial_shapes, frame_index)
    library = _library(value, backend)
    if library is None:
        return deform_attn_reference(value, spatial_shapes, frame_index, locations, weights)
    inputs = [tensor.contiguous() for tensor in (value, locations, weights)]
    output = value.new_empty(_output_shape(value, locations))
    _call(library.vislab_deform_attn_forward, spatial_shapes, frame_index, inputs, [output], value, weights)
    return output


@torch.library.impl("vislab::deform_attn_backward", "default")
def _backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    locations: Tensor,
    weights: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    library = _library(value, backend)
    if library is None:
        return deform_attn_reference_backward(grad_output, value, spatial_shapes, frame_index, locations, weights)
    inputs = [tensor.contiguous() for tensor in (grad_output, value, locations, weights)]
    grad_value, grad_locations, grad_weights = (tensor.new_empty(tensor.shape) for tensor in inputs[1:])
    outputs = [grad_value, grad_locations, grad_weights]
    _call(library.vislab_deform_attn_backward, spatial_shapes, frame_index, inputs, outputs, value, weights)
    return grad_value, grad_locations, grad_weights


@torch.library.register_fake("vislab::deform_attn")
def _forward_fake(
    value: Tensor, spatial_shapes: Tensor, frame_index: Tensor, locations: Tensor, weights: Tensor, backend: str
) -> Tensor:
    return value.new_empty(_output_shape(value, locations))


@torch.library.register_fake("vislab::deform_attn_backward")
def _backward_fake(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    locations: Tensor,
    weights: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), locations.new_empty(locations.shape), weights.new_empty(weights.shape)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _autograd(ctx: Any, grad_output: Tensor) -> tuple:
    grads = torch.ops.vislab.deform_attn_backward(grad_output, *ctx.saved_tensors, ctx.backend)
    grad_value, grad_locations, grad_weights = grads
    return grad_value, None, None, grad_locations, grad_weights, None


torch.library.register_autograd("vislab::deform_attn", _autograd, setup_context=_setup_context)


def _flops(value: tuple, weights: tuple) -> int:
    # A multiply and an add per point, corner and channel; positions and shares are not counted.
    return 2 * 4 * prod(weights) * value[-1]


@register_flop_formula(torch.ops.vislab.deform_attn)
def _forward_flops(
    value: tuple, shapes: tuple, index: tuple, locations: tuple, weights: tuple, *_: Any, **__: Any
) -> int:
    return _flops(value, weights)


@register_flop_formula(torch.ops.vislab.deform_attn_backward)
def _backward_flops(
    grad: tuple, value: tuple, shapes: tuple, index: tuple, locations: tuple, weights: tuple, *_: Any, **__: Any
) -> int:
    return 2 * _flops(value, weights)  # dot products with the pixels, and the pixels' own gradients


def check_contents(value: Tensor, spatial_shapes: Tensor, frame_index: Tensor) -> None:
    """Raise `UserError` where the entries of the two index tensors do not fit `value`."""
    tokens, frames = value.shape[2], value.shape[1]
    shapes = spatial_shapes.tolist()
    if sum(height * width for height, width in shapes) != tokens or any(min(shape) < 1 for shape in shapes):
        raise UserError(
            f"deform_attn: spatial_shapes is {shapes}, expected positive (height, width) of levels that hold "
            f"{tokens} pixels in all, as value does"
        )
    entries = [entry for row in frame_index.tolist() for entry in row]
    if entries and not (min(entries) >= -1 and max(entries) < frames):
        raise UserError(
            f"deform_attn: frame_index has entries from {min(entries)} to {max(entries)}, "
            f"expected -1 (no frame) to {frames - 1}"
        )


def _output_shape(value: Tensor, locations: Tensor) -> tuple[int, int, int, int]:
    return (*locations.shape[:3], value.shape[3] * value.shape[4])  # type: ignore[return-value]


def _library(value: Tensor, backend: str) -> ctypes.CDLL | None:
    """The native kernel where it applies; None where the definition is to run. Asked for by name, it must apply."""
    if value.device.type != "cpu":
        obstacle = f"value is on {value.device}"
    elif value.dtype != torch.float32:
        obstacle = f"value is {value.dtype}, the kernel computes in torch.float32"
    elif prod(value.shape[2:]) >= 2**31:
        obstacle = f"one frame of value has {prod(value.shape[2:])} numbers, the kernel's limit is 2**31 - 1"
    else:
        kernel = native_kernel()
        if kernel.library is not None:
            return kernel.library
        obstacle = kernel.reason
        if backend == "auto":
            _warn_once(obstacle)
    if backend == "cpu":
        raise UserError(f'deform_attn: backend="cpu" cannot run: {obstacle}')
    return None


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"deform_attn runs its pure-torch definition, which is slower: {reason}", stacklevel=2)


def _call(
    function: Any,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    inputs: list[Tensor],
    outputs: list[Tensor],
    value: Tensor,
    weights: Tensor,
) -> None:
    sizes = (*value.shape, weights.shape[2], *weights.shape[4:])
    # Threads do not change the result; a call of less than some ten microseconds is not worth a second one.
    threads = max(1, min(torch.get_num_threads(), weights.numel() * value.shape[-1] >> 16))
    index_tensors = [tensor.cpu().contiguous() for tensor in (spatial_shapes, frame_index)]
    pointers = [tensor.data_ptr() for tensor in (*index_tensors, *inputs, *outputs)]
    function((ctypes.c_int64 * 9)(*sizes), *pointers, threads)
