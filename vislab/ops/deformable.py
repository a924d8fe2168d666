"""The public function `deform_attn`: one deformable attention for all models.

Shape letters: B batch, T frames, Q queries, F source frames, L levels, P points, M heads, D channels per head,
S sum of height * width over levels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vislab.errors import UserError
from vislab.ops import operator  # noqa: F401 - registers torch.ops.vislab.deform_attn
from vislab.ops.operator import check_contents
from vislab.ops.reference import deform_attn_reference

Backend = Literal["auto", "reference", "cpu", "cuda"]


def deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """MSDA, Deformable DETR (arXiv 2010.04159) Eq. 3, over F source frames per frame: sample, weight, sum.

    Bilinear sampling with zeros outside the map, align_corners=False: the centre of pixel i of W lies at (i + 0.5) / W.
    Where a position is exactly a pixel centre, its gradient is the one towards the following pixel.

    Args:
        value: (B, T, S, M, D), floating; finite. The levels lie one behind another, each row by row.
        spatial_shapes: (L, 2) int64, (height, width) of every level. Best on the CPU: it is read there.
        frame_index: (T, F) int64, the source frames of every frame; -1 marks an absent one, whose points count for
            nothing. Best on the CPU.
        sampling_locations: (B, T, Q, M, F, L, P, 2), (x, y) in [0, 1] of the level. A location that is NaN, infinite or
            out of the map's reach contributes zero and has zero gradient.
        attention_weights: (B, T, Q, M, F, L, P), used as they are (softmax is the caller's).
        backend: "auto" takes the fastest path there is; "reference" is the pure-torch definition, differentiable twice;
            "cpu" is the native kernel (float32), and an error where it cannot run.

    Returns:
        (B, T, Q, M * D) in the dtype of `value`. Under autocast inputs are cast to float32 and so is the result.

    Raises:
        UserError: for shapes, dtypes, devices or entries that do not fit, or a backend that cannot run.
    """
    tensors = (value, sampling_locations, attention_weights)
    device = value.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        value, sampling_locations, attention_weights = (tensor.float() for tensor in tensors)
    _check_shapes(value, spatial_shapes, frame_index, sampling_locations, attention_weights)
    _check_types(value, spatial_shapes, frame_index, sampling_locations, attention_weights)
    arguments = (value, spatial_shapes, frame_index, sampling_locations, attention_weights)
    if backend == "reference" and not value.is_meta:
        check_contents(value, spatial_shapes, frame_index)
        return deform_attn_reference(*arguments)
    if backend == "cuda":
        raise UserError('deform_attn: backend="cuda" is not part of this release, expected auto, reference or cpu')
    if backend not in ("auto", "reference", "cpu"):
        raise UserError(f"deform_attn: backend is {backend!r}, expected auto, reference, cpu or cuda")
    return torch.ops.vislab.deform_attn(*arguments, backend)


def _check_shapes(value: Tensor, shapes: Tensor, index: Tensor, locations: Tensor, weights: Tensor) -> None:
    if value.dim() != 5:
        raise UserError(f"deform_attn: value has shape {tuple(value.shape)}, expected (B, T, S, M, D)")
    batch, frames, _, heads, _ = value.shape
    if shapes.dim() != 2 or shapes.shape[0] < 1 or shapes.shape[1] != 2:
        raise UserError(f"deform_attn: spatial_shapes has shape {tuple(shapes.shape)}, expected (L, 2)")
    if index.dim() != 2 or index.shape[0] != frames or index.shape[1] < 1:
        raise UserError(f"deform_attn: frame_index has shape {tuple(index.shape)}, expected (T={frames}, F)")
    if weights.dim() != 7 or weights.shape[6] < 1:
        raise UserError(
            f"deform_attn: attention_weights has shape {tuple(weights.shape)}, expected (B, T, Q, M, F, L, P)"
        )
    queries, points = weights.shape[2], weights.shape[6]
    expected = (batch, frames, queries, heads, index.shape[1], shapes.shape[0], points)
    if weights.shape != expected:
        raise UserError(
            f"deform_attn: attention_weights has shape {tuple(weights.shape)}, "
            f"expected (B, T, Q, M, F, L, P) = {expected}"
        )
    if locations.shape != (*expected, 2):
        raise UserError(
            f"deform_attn: sampling_locations has shape {tuple(locations.shape)}, "
            f"expected (B, T, Q, M, F, L, P, 2) = {(*expected, 2)}"
        )


def _check_types(value: Tensor, shapes: Tensor, index: Tensor, locations: Tensor, weights: Tensor) -> None:
    if not value.is_floating_point():
        raise UserError(f"deform_attn: value is {value.dtype}, expected a floating dtype")
    for name, tensor in (("sampling_locations", locations), ("attention_weights", weights)):
        if tensor.dtype != value.dtype:
            raise UserError(f"deform_attn: {name} is {tensor.dtype}, expected {value.dtype} as value is")
        if tensor.device != value.device:
            raise UserError(f"deform_attn: {name} is on {tensor.device}, expected {value.device} as value is")
    for name, tensor in (("spatial_shapes", shapes), ("frame_index", index)):
        if tensor.dtype != torch.int64:
            raise UserError(f"deform_attn: {name} is {tensor.dtype}, expected torch.int64")
