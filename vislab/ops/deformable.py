"""The public functions `deform_attn` and `deform_attn_fused`: one deformable attention for all models.

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
from vislab.ops.reference import deform_attn_fused_reference, deform_attn_reference

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
            "cpu" and "cuda" are the native kernels (float32, bfloat16, float16; sums in float32), and an error where
            they cannot run. The CPU kernel is deterministic; the CUDA kernel is under
            torch.use_deterministic_algorithms(True).

    Returns:
        (B, T, Q, M * D) in the dtype of `value`. Under autocast inputs are cast to float32 and so is the result:
        locations in half precision would be off by pixels (`deform_attn_fused` keeps half precision).

    Raises:
        UserError: for shapes, dtypes, devices or entries that do not fit, or a backend that cannot run.
    """
    tensors = (value, sampling_locations, attention_weights)
    if _autocast_dtype(value) is not None:
        value, sampling_locations, attention_weights = (tensor.float() for tensor in tensors)
    names = ("sampling_locations", "attention_weights")
    _check_points(value, spatial_shapes, frame_index, sampling_locations, attention_weights, names)
    arguments = (value, spatial_shapes, frame_index, sampling_locations, attention_weights)
    if backend == "reference" and not value.is_meta:
        check_contents(value, spatial_shapes, frame_index)
        return deform_attn_reference(*arguments)
    _check_backend(backend)
    return torch.ops.vislab.deform_attn(*arguments, backend)


def deform_attn_fused(
    value: Tensor,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """MSDA, Deformable DETR (arXiv 2010.04159) Eq. 3, from what the linear layers give: softmax and locations inside.

    Equal to `deform_attn` at the locations reference + offset * unit, with the softmax of the logits over all points of
    all levels and source frames. The unit is one pixel of the level for reference points, and half the box divided by P
    for reference boxes (Deformable-DETR models/ops/modules/ms_deform_attn.py:101-107). Points of absent frames take no
    part in the softmax; where all frames are absent the result is zero.

    Args:
        value, spatial_shapes, frame_index, backend: as `deform_attn` takes them.
        reference_points: (B, T or 1, Q, F or 1, L, 2 or 4), (x, y) or (cx, cy, w, h) in [0, 1] of the level, the same
            for all frames or source frames where there is a 1; in float32 or the dtype of `value`.
        sampling_offsets: (B, T, Q, M, F, L, P, 2), (x, y) in units as above.
        attention_logits: (B, T, Q, M, F, L, P).

    Returns:
        (B, T, Q, M * D) in the dtype of `value`. Under autocast value, offsets and logits are cast to its dtype and
        references to float32; locations, softmax and sums are computed in float32 in every case.

    Raises:
        UserError: for shapes, dtypes, devices or entries that do not fit, or a backend that cannot run.
    """
    dtype = _autocast_dtype(value)
    if dtype is not None:
        tensors = (value, sampling_offsets, attention_logits)
        value, sampling_offsets, attention_logits = (tensor.to(dtype) for tensor in tensors)
        reference_points = reference_points.float()
    names = ("sampling_offsets", "attention_logits")
    _check_points(value, spatial_shapes, frame_index, sampling_offsets, attention_logits, names)
    _check_references(value, spatial_shapes, frame_index, reference_points, attention_logits.shape[2])
    arguments = (value, spatial_shapes, frame_index, reference_points, sampling_offsets, attention_logits)
    if backend == "reference" and not value.is_meta:
        check_contents(value, spatial_shapes, frame_index)
        return deform_attn_fused_reference(*arguments)
    _check_backend(backend)
    return torch.ops.vislab.deform_attn_fused(*arguments, backend)


def _autocast_dtype(value: Tensor) -> torch.dtype | None:
    device = value.device.type
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if enabled else None


def _check_backend(backend: str) -> None:
    if backend not in ("auto", "reference", "cpu", "cuda"):
        raise UserError(f"deform_attn: backend is {backend!r}, expected auto, reference, cpu or cuda")


def _check_points(
    value: Tensor, shapes: Tensor, index: Tensor, coordinates: Tensor, scores: Tensor, names: tuple[str, str]
) -> None:
    """Shapes and dtypes of all but the references; `names` are what coordinates and scores are called."""
    if value.dim() != 5:
        raise UserError(f"deform_attn: value has shape {tuple(value.shape)}, expected (B, T, S, M, D)")
    batch, frames, _, heads, _ = value.shape
    if shapes.dim() != 2 or shapes.shape[0] < 1 or shapes.shape[1] != 2:
        raise UserError(f"deform_attn: spatial_shapes has shape {tuple(shapes.shape)}, expected (L, 2)")
    if index.dim() != 2 or index.shape[0] != frames or index.shape[1] < 1:
        raise UserError(f"deform_attn: frame_index has shape {tuple(index.shape)}, expected (T={frames}, F)")
    found = tuple(scores.shape)
    if scores.dim() != 7 or scores.shape[6] < 1:
        raise UserError(f"deform_attn: {names[1]} has shape {found}, expected (B, T, Q, M, F, L, P)")
    expected = (batch, frames, scores.shape[2], heads, index.shape[1], shapes.shape[0], scores.shape[6])
    if scores.shape != expected:
        raise UserError(f"deform_attn: {names[1]} has shape {found}, expected (B, T, Q, M, F, L, P) = {expected}")
    if coordinates.shape != (*expected, 2):
        raise UserError(
            f"deform_attn: {names[0]} has shape {tuple(coordinates.shape)}, "
            f"expected (B, T, Q, M, F, L, P, 2) = {(*expected, 2)}"
        )
    _check_types(value, shapes, index, {names[0]: coordinates, names[1]: scores})


def _check_types(value: Tensor, shapes: Tensor, index: Tensor, points: dict[str, Tensor]) -> None:
    if not value.is_floating_point():
        raise UserError(f"deform_attn: value is {value.dtype}, expected a floating dtype")
    for name, tensor in points.items():
        if tensor.dtype != value.dtype:
            raise UserError(f"deform_attn: {name} is {tensor.dtype}, expected {value.dtype} as value is")
        if tensor.device != value.device:
            raise UserError(f"deform_attn: {name} is on {tensor.device}, expected {value.device} as value is")
    for name, tensor in (("spatial_shapes", shapes), ("frame_index", index)):
        if tensor.dtype != torch.int64:
            raise UserError(f"deform_attn: {name} is {tensor.dtype}, expected torch.int64")


def _check_references(value: Tensor, shapes: Tensor, index: Tensor, reference: Tensor, queries: int) -> None:
    found = tuple(reference.shape)
    batch, frames, sources, levels = value.shape[0], value.shape[1], index.shape[1], shapes.shape[0]
    fits = reference.dim() == 6 and all(
        size in allowed
        for size, allowed in zip(
            found, ((batch,), (frames, 1), (queries,), (sources, 1), (levels,), (2, 4)), strict=True
        )
    )
    if not fits:
        raise UserError(
            f"deform_attn: reference_points has shape {found}, expected (B, T or 1, Q, F or 1, L, 2 or 4) = "
            f"({batch}, {frames} or 1, {queries}, {sources} or 1, {levels}, 2 or 4)"
        )
    if reference.dtype not in (torch.float32, value.dtype):
        raise UserError(
            f"deform_attn: reference_points is {reference.dtype}, expected torch.float32 or {value.dtype} as value is"
        )
    if reference.device != value.device:
        raise UserError(f"deform_attn: reference_points is on {reference.device}, expected {value.device} as value is")
