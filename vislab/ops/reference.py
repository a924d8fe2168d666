"""Multi-scale deformable attention in plain torch: the definition that every fast path is measured against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor


class Corner(NamedTuple):
    """One of the four pixels around the points of one level; tensors are (B, T, Q, M, F, P)."""

    level: int
    row: Tensor  # of value.reshape(-1, D)
    inside: (
        Tensor  # False where there is no such pixel: outside the map, an absent frame, a location that is not finite
    )
    share: tuple[Tensor, Tensor]  # along x and y; their product is the bilinear coefficient
    slope: tuple[int, int]  # derivatives of the two shares by the location: plus or minus width and height


def deform_attn_reference(
    value: Tensor, spatial_shapes: Tensor, frame_index: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """MSDA, Deformable DETR (arXiv 2010.04159) Eq. 3, over F source frames: a weighted bag of rows of ``value``.

    Each point reads the four pixels around it, so a query and head sum 4*F*L*P rows. Shapes and conventions are those
    of `vislab.ops.deform_attn`. Works on every device, in every floating dtype, and is differentiable by autograd.
    """
    rows, coefficients = [], []
    for corner in corners(value, spatial_shapes, frame_index, sampling_locations):
        weight = attention_weights[..., corner.level, :]
        rows.append(corner.row)
        coefficients.append(torch.where(corner.inside, weight * (corner.share[0] * corner.share[1]), 0))
    bags, per_row = (torch.stack(parts, -1).flatten(0, 3).flatten(1) for parts in (rows, coefficients))
    output = functional.embedding_bag(bags, value.reshape(-1, value.shape[-1]), mode="sum", per_sample_weights=per_row)
    return output.view(*sampling_locations.shape[:3], value.shape[3] * value.shape[4])


def corners(value: Tensor, spatial_shapes: Tensor, frame_index: Tensor, locations: Tensor) -> Iterator[Corner]:
    """The pixels that the points touch: four per level. Differentiable in `locations` through the shares."""
    batch_size, num_frames, tokens, num_heads, _ = value.shape
    batch = torch.arange(batch_size, device=value.device).view(-1, 1, 1, 1, 1, 1)
    head = torch.arange(num_heads, device=value.device).view(-1, 1, 1)
    frame = frame_index.to(value.device).view(num_frames, 1, 1, -1, 1)
    start = 0
    for level, (height, width) in enumerate(spatial_shapes.tolist()):
        position = (
            locations[..., level, :, :] * value.new_tensor([width, height]) - 0.5
        )  # 0 is the first pixel's centre
        reach = ((position > -1) & (position < value.new_tensor([width, height]))).all(-1) & (frame >= 0)  # no NaN
        position = torch.where(reach.unsqueeze(-1), position, 0)
        cell = position.floor()
        x0, y0 = cell.long().unbind(-1)
        right, below = (position - cell).unbind(-1)
        for y, share_y, slope_y in ((y0, 1 - below, -height), (y0 + 1, below, height)):
            for x, share_x, slope_x in ((x0, 1 - right, -width), (x0 + 1, right, width)):
                inside = reach & (x >= 0) & (x < width) & (y >= 0) & (y < height)
                token = start + y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
                row = ((batch * num_frames + frame.clamp(min=0)) * tokens + token) * num_heads + head
                yield Corner(level, row, inside, (share_x, share_y), (slope_x, slope_y))
        start += height * width


def deform_attn_reference_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative of the definition, written out: gradients of value, locations and weights.

    An operator's backward may run where autograd is off (below a dispatch mode such as a FLOP counter), so it cannot
    be left to autograd. Sums are kept in float32 at least.
    """
    table = value.reshape(-1, value.shape[-1])
    upstream = grad_output.unflatten(-1, value.shape[3:])[..., None, None, :]  # (B,T,Q,M,1,1,D)
    inputs = (table, sampling_locations, attention_weights)
    wide = torch.promote_types(value.dtype, torch.float32)
    grad_table, grad_locations, grad_weights = (torch.zeros_like(tensor, dtype=wide) for tensor in inputs)
    for level, row, inside, (share_x, share_y), (slope_x, slope_y) in corners(
        value, spatial_shapes, frame_index, sampling_locations
    ):
        weight = attention_weights[..., level, :]
        pixel = table[row.flatten()].view(*row.shape, table.shape[-1])
        dot = torch.where(inside, (pixel * upstream).sum(-1), 0)
        grad_weights[..., level, :] += share_x * share_y * dot
        grad_locations[..., level, :, 0] += slope_x * share_y * weight * dot
        grad_locations[..., level, :, 1] += slope_y * share_x * weight * dot
        coefficient = torch.where(inside, weight * (share_x * share_y), 0)
        scattered = (coefficient.unsqueeze(-1) * upstream).reshape(-1, table.shape[-1])
        grad_table.index_add_(0, row.flatten(), scattered.to(wide))
    grads = (grad_table.view(value.shape), grad_locations, grad_weights)
    grad_value, grad_locations, grad_weights = (grad.to(value.dtype).contiguous() for grad in grads)
    return grad_value, grad_locations, grad_weights


def deform_attn_fused_reference(
    value: Tensor,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """`deform_attn_reference` from raw offsets and logits, as `vislab.ops.deform_attn_fused` describes it.

    Sums are kept in float32 at least; the result is in the dtype of `value`.
    """
    wide = torch.promote_types(value.dtype, torch.float32)
    reference, offsets, logits = (tensor.to(wide) for tensor in (reference_points, sampling_offsets, attention_logits))
    locations = reference[:, :, :, None, :, :, None, :2] + offsets * offset_unit(reference, spatial_shapes, offsets)
    weights = joint_softmax(logits, frame_index)
    return deform_attn_reference(value.to(wide), spatial_shapes, frame_index, locations, weights).to(value.dtype)


def offset_unit(reference: Tensor, spatial_shapes: Tensor, offsets: Tensor) -> Tensor:
    """What an offset of one moves a location by: a pixel, or for boxes half their size divided by P.

    reference: (B, T or 1, Q, F or 1, L, 2 or 4). Returns a tensor that broadcasts to offsets (B, T, Q, M, F, L, P, 2).
    """
    if reference.shape[-1] == 4:
        return (reference[..., 2:] * (0.5 / offsets.shape[-2]))[:, :, :, None, :, :, None]
    return (1 / spatial_shapes.flip(-1).to(offsets))[:, None]


def joint_softmax(logits: Tensor, frame_index: Tensor) -> Tensor:
    """Softmax over the last three dimensions of (B, T, Q, M, F, L, P), without the points of absent frames.

    Zero where all frames are absent or all logits are minus infinity.
    """
    absent = (frame_index < 0).to(logits.device)[:, None, None, :, None, None]
    flat = logits.masked_fill(absent, float("-inf")).flatten(-3)
    nothing = flat.isneginf().all(-1, keepdim=True)
    return flat.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0).view_as(logits)


def deform_attn_fused_reference_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    frame_index: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    location_gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative of the fused definition: gradients of value, offsets (or their locations) and logits."""
    wide = torch.promote_types(value.dtype, torch.float32)
    upstream, values, reference, offsets, logits = (
        tensor.to(wide) for tensor in (grad_output, value, reference_points, sampling_offsets, attention_logits)
    )
    unit = offset_unit(reference, spatial_shapes, offsets)
    locations = reference[:, :, :, None, :, :, None, :2] + offsets * unit
    weights = joint_softmax(logits, frame_index)
    grad_value, grad_locations, grad_weights = deform_attn_reference_backward(
        upstream, values, spatial_shapes, frame_index, locations, weights
    )
    mean = (weights * grad_weights).flatten(-3).sum(-1)[..., None, None, None]
    grad_coordinates = grad_locations if location_gradients else grad_locations * unit
    grads = (grad_value, grad_coordinates, weights * (grad_weights - mean))
    grad_value, grad_coordinates, grad_logits = (grad.to(value.dtype).contiguous() for grad in grads)
    return grad_value, grad_coordinates, grad_logits
