"""Where deformable attention looks, for figures and tests.

Shape letters: B batch, T frames, Q queries, F source frames, L levels, P points, M heads, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vislab.blocks.clip_msda import ClipMSDA
from vislab.blocks.spatio_temporal_msda import SpatioTemporalMSDA
from vislab.errors import UserError
from vislab.ops.reference import joint_softmax, offset_unit


@dataclass(frozen=True)
class AttendedPoints:
    """Sampling of one deformable attention. Coordinates are (x, y) in [0, 1] of the padded input.

    frames: (T, F) int64, the source frames of each frame, its own first; -1 marks an absent one. reference:
    (B, T, Q, F, 2 or 4), points or cxcywh boxes on these frames. locations: (B, T, Q, M, F, L, P, 2). weights:
    (B, T, Q, M, F, L, P), summing to 1 per head. P is the larger of K_curr and K_temp; points that do not exist have
    weight 0.
    """

    frames: Tensor
    reference: Tensor
    locations: Tensor
    weights: Tensor


def attended_points(
    block: SpatioTemporalMSDA, query: Tensor, reference: Tensor, spatial_shapes: Tensor,
    other_reference: Tensor | None = None,
) -> AttendedPoints:  # fmt: skip
    """The sampling of block(query, reference, ...); its arguments are those of SpatioTemporalMSDA.forward.

    Raises UserError for T-MSDA, whose weights are not under one softmax with those of the own frame.
    """
    if block.temporal is not None and not isinstance(block.temporal, ClipMSDA):
        raise UserError("attended points are those of one softmax: temporal is TemporalMSDA, expected ClipMSDA or None")
    num_frames = query.shape[1]
    frames, projected = [torch.arange(num_frames)[:, None]], [block.spatial.project(query)]
    references = [reference.unsqueeze(3)]
    if block.temporal is not None:
        frames.append(block.temporal.source_frames(num_frames))
        projected.append(block.temporal.project(query))
        references = list(block.temporal.references(reference, other_reference))
    levels = list(block.spatial.levels or range(len(spatial_shapes)))
    sizes = [table.shape[1] for table in frames]
    points = [
        part[..., levels, :].expand(-1, num_frames, -1, size, -1, -1)
        for part, size in zip(references, sizes, strict=True)
    ]
    locations = [
        part[:, :, :, None, :, :, None, :2] + offsets * offset_unit(part, spatial_shapes[levels], offsets)
        for part, (offsets, _) in zip(points, projected, strict=True)
    ]
    most = max(part.shape[-2] for part in locations)
    padded = [functional.pad(part, (0, 0, 0, most - part.shape[-2])) for part in locations]
    logits = [functional.pad(part, (0, most - part.shape[-1]), value=float("-inf")) for _, part in projected]
    table = torch.cat(frames, dim=1)
    weights = joint_softmax(torch.cat(logits, dim=4), table)
    return AttendedPoints(table, torch.cat(points, dim=3)[..., 0, :], torch.cat(padded, dim=4), weights)
