"""The torch operators vislab::deform_attn and vislab::deform_attn_fused and their backwards.

Dispatch to a path, autograd, shapes and FLOPs. Every backend but "reference" is one of these operators, whatever runs
inside it, so that torch.compile, the FLOP counter and models on the meta device see the same thing on every machine.
"""

from __future__ import annotations

import functools
import warnings
from math import prod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from vislab.errors import UserError
from vislab.ops import cpu, cuda
from vislab.ops.reference import (
    deform_attn_fused_reference,
    deform_attn_fused_reference_backward,
    deform_attn_reference,
    deform_attn_reference_backward,
    offset_unit,
)

_PLAIN = (
    "Tensor value, Tensor spatial_shapes, Tensor frame_index, Tensor sampling_locations, Tensor attention_weights, "
    "str backend"
)
_FUSED = (
    "Tensor value, Tensor spatial_shapes, Tensor frame_index, Tensor reference_points, Tensor sampling_offsets, "
    "Tensor attention_logits, str backend"
)
for _name, _schema in {
    "deform_attn": f"({_PLAIN}) -> Tensor",
    "deform_attn_backward": f"(Tensor grad_output, {_PLAIN}) -> (Tensor, Tensor, Tensor)",
    "deform_attn_fused": f"({_FUSED}) -> Tensor",
    "deform_attn_fused_backward": (
        f"(Tensor grad_output, {_FUSED}, bool location_gradients) -> (Tensor, Tensor, Tensor)"
    ),
}.items():
    torch.library.define(f"vislab::{_name}", _schema, tags=(torch.Tag.pt2_compliant_tag,))


@torch.library.impl("vislab::deform_attn", "default")
def _forward(
    value: Tensor, shapes: Tensor, frame_index: Tensor, locations: Tensor, weights: Tensor, backend: str
) -> Tensor:
    levels, frames = check_contents(value, shapes, frame_index)
    path = _path(value, backend)
    if path is None:
        return deform_attn_reference(value, shapes, frame_index, locations, weights)
    return path.forward(value, levels, frames, None, locations, weights)


@torch.library.impl("vislab::deform_attn_backward", "default")
def _backward(
    grad: Tensor, value: Tensor, shapes: Tensor, frame_index: Tensor, locations: Tensor, weights: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    path = _path(value, backend)
    if path is None:
        return deform_attn_reference_backward(grad, value, shapes, frame_index, locations, weights)
    tables = check_contents(value, shapes, frame_index)
    return path.backward(grad, value, *tables, None, locations, weights, **_backward_options(True))


@torch.library.impl("vislab::deform_attn_fused", "default")
def _fused_forward(
    value: Tensor, shapes: Tensor, frame_index: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor, backend: str
) -> Tensor:
    levels, frames = check_contents(value, shapes, frame_index)
    path = _path(value, backend)
    if path is None:
        return deform_attn_fused_reference(value, shapes, frame_index, reference, offsets, logits)
    return path.forward(value, levels, frames, _expanded(reference, offsets), offsets, logits)


@torch.library.impl("vislab::deform_attn_fused_backward", "default")
def _fused_backward(
    grad: Tensor,
    value: Tensor,
    shapes: Tensor,
    frame_index: Tensor,
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    backend: str,
    location_gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    path = _path(value, backend)
    if path is None:
        inputs = (value, shapes, frame_index, reference, offsets, logits)
        return deform_attn_fused_reference_backward(grad, *inputs, location_gradients)
    tables = check_contents(value, shapes, frame_index)
    expanded = _expanded(reference, offsets)
    return path.backward(grad, value, *tables, expanded, offsets, logits, **_backward_options(location_gradients))


def _backward_options(location_gradients: bool) -> dict[str, bool]:
    return {
        "location_gradients": location_gradients,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _expanded(reference: Tensor, offsets: Tensor) -> Tensor:
    """(B, T or 1, Q, F or 1, L, 2 or 4) -> (B, T, Q, F, L, 2 or 4) float32, nothing copied along T and F."""
    _, frames, _, _, sources = offsets.shape[:5]
    return reference.float().contiguous().expand(-1, frames, -1, sources, -1, -1)


@torch.library.register_fake("vislab::deform_attn")
def _forward_fake(value: Tensor, shapes: Tensor, index: Tensor, locations: Tensor, *_: Any) -> Tensor:
    return value.new_empty(_output_shape(value, locations))


@torch.library.register_fake("vislab::deform_attn_backward")
def _backward_fake(
    grad: Tensor, value: Tensor, shapes: Tensor, index: Tensor, locations: Tensor, weights: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), locations.new_empty(locations.shape), weights.new_empty(weights.shape)


@torch.library.register_fake("vislab::deform_attn_fused")
def _fused_forward_fake(
    value: Tensor, shapes: Tensor, index: Tensor, reference: Tensor, offsets: Tensor, *_: Any
) -> Tensor:
    return value.new_empty(_output_shape(value, offsets))


@torch.library.register_fake("vislab::deform_attn_fused_backward")
def _fused_backward_fake(
    grad: Tensor, value: Tensor, shapes: Tensor, index: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return value.new_empty(value.shape), offsets.new_empty(offsets.shape), logits.new_empty(logits.shape)


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _autograd(ctx: Any, grad_output: Tensor) -> tuple:
    grads = torch.ops.vislab.deform_attn_backward(grad_output, *ctx.saved_tensors, ctx.backend)
    grad_value, grad_locations, grad_weights = grads
    return grad_value, None, None, grad_locations, grad_weights, None


def _fused_autograd(ctx: Any, grad_output: Tensor) -> tuple:
    # A reference that wants a gradient belongs to a decoder's few queries: torch's sums over their locations will do.
    wanted = ctx.needs_input_grad[3]
    grads = torch.ops.vislab.deform_attn_fused_backward(grad_output, *ctx.saved_tensors, ctx.backend, wanted)
    grad_value, grad_offsets, grad_logits = grads
    grad_reference = None
    if wanted:
        _, shapes, _, reference, offsets, _ = ctx.saved_tensors
        grad_offsets, grad_reference = _gradients_from_locations(grad_offsets, shapes, reference, offsets)
    return grad_value, None, None, grad_reference, grad_offsets, grad_logits, None


def _gradients_from_locations(
    grad_locations: Tensor, shapes: Tensor, reference: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of offsets and references; location = reference + offset * unit, see `offset_unit`."""
    wide = torch.promote_types(offsets.dtype, torch.float32)
    grad, known = grad_locations.to(wide), reference.to(wide)
    parts = [grad.sum((3, 6))]  # over heads and points: (B, T, Q, F, L, 2)
    if reference.shape[-1] == 4:
        parts.append((grad * offsets).sum((3, 6)) * (0.5 / offsets.shape[-2]))
    grad_reference = torch.cat(parts, -1).sum_to_size(reference.shape).to(reference.dtype)
    return (grad * offset_unit(known, shapes, grad)).to(offsets.dtype), grad_reference


torch.library.register_autograd("vislab::deform_attn", _autograd, setup_context=_setup_context)
torch.library.register_autograd("vislab::deform_attn_fused", _fused_autograd, setup_context=_setup_context)


# A multiply and an add per point, corner and channel; positions, shares and the softmax are not counted. The backward
# has twice that: dot products with the pixels, and the pixels' own gradients.
@register_flop_formula(torch.ops.vislab.deform_attn)
def _forward_flops(value: tuple, shapes: tuple, index: tuple, locations: tuple, *_: Any, **__: Any) -> int:
    return 2 * 4 * prod(locations[:-1]) * value[-1]


@register_flop_formula(torch.ops.vislab.deform_attn_backward)
def _backward_flops(grad: tuple, *inputs: Any, **__: Any) -> int:
    return 2 * _forward_flops(*inputs)


@register_flop_formula(torch.ops.vislab.deform_attn_fused)
def _fused_flops(
    value: tuple, shapes: tuple, index: tuple, reference: tuple, offsets: tuple, *_: Any, **__: Any
) -> int:
    return 2 * 4 * prod(offsets[:-1]) * value[-1]


@register_flop_formula(torch.ops.vislab.deform_attn_fused_backward)
def _fused_backward_flops(grad: tuple, *inputs: Any, **__: Any) -> int:
    return 2 * _fused_flops(*inputs)


def check_contents(
    value: Tensor, spatial_shapes: Tensor, frame_index: Tensor
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, ...], ...]]:
    """The two index tensors as tuples; raises `UserError` where their entries do not fit `value`."""
    tokens, frames = value.shape[2], value.shape[1]
    shapes = spatial_shapes.tolist()
    if sum(height * width for height, width in shapes) != tokens or any(min(shape) < 1 for shape in shapes):
        raise UserError(
            f"deform_attn: spatial_shapes is {shapes}, expected positive (height, width) of levels that hold "
            f"{tokens} pixels in all, as value does"
        )
    table = frame_index.tolist()
    entries = [entry for row in table for entry in row]
    if entries and not (min(entries) >= -1 and max(entries) < frames):
        raise UserError(
            f"deform_attn: frame_index has entries from {min(entries)} to {max(entries)}, "
            f"expected -1 (no frame) to {frames - 1}"
        )
    return tuple(map(tuple, shapes)), tuple(map(tuple, table))


def _output_shape(value: Tensor, coordinates: Tensor) -> tuple[int, int, int, int]:
    return (*coordinates.shape[:3], value.shape[3] * value.shape[4])  # type: ignore[return-value]


def _path(value: Tensor, backend: str) -> ModuleType | None:
    """The fast path where it applies; None where the definition is to run. Asked for by name, it must apply."""
    device = value.device.type
    path = {"cpu": cpu, "cuda": cuda}.get(device)
    if path is None or backend not in ("auto", device):
        reason: str | None = f"value is on {value.device}"
    else:
        reason = path.obstacle(value)
        if reason is None:
            return path
        if backend == "auto" and value.dtype != torch.float64:
            _warn_once(reason)
    if backend != "auto":
        raise UserError(f'deform_attn: backend="{backend}" cannot run: {reason}')
    return None


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"deform_attn runs its pure-torch definition, which is slower: {reason}", stacklevel=2)
