"""Learned queries' starting points and the class heads of the decoders.

Shape letters: T frames, Q queries, C channels.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

ReferenceInit = Literal["linear", "grid"]


def grid_points(count: int) -> Tensor:
    """count points on a regular grid of about 16:9, (count, 2), (x, y) in (0, 1)."""
    columns = max(1, round(math.sqrt(count * 16 / 9)))
    rows = math.ceil(count / columns)
    index = torch.arange(count)
    x = (index % columns + 0.5) / columns
    y = (torch.div(index, columns, rounding_mode="floor") + 0.5) / rows
    return torch.stack((x, y), dim=-1)


def reference_points(kind: ReferenceInit, channels: int, num_queries: int, num_frames: int = 1) -> nn.Module:
    """First reference points: a linear layer that reads them from the query position (released models), or learned
    points of T * Q queries, frame by frame, that start on a grid."""
    if kind == "grid":
        points = nn.Embedding(num_frames * num_queries, 2)
        with torch.no_grad():
            points.weight.copy_(torch.logit(grid_points(num_queries)).repeat(num_frames, 1))
        return points
    projection = nn.Linear(channels, 2)
    nn.init.xavier_uniform_(projection.weight)
    nn.init.zeros_(projection.bias)
    return projection


def initial_references(points: nn.Module, position: Tensor) -> Tensor:
    """points: from `reference_points`; position: (..., C) of the queries. Returns (..., 2) in [0, 1]."""
    if isinstance(points, nn.Embedding):
        return points.weight.sigmoid()
    # autocast must not round points, nor the boxes that are refined from them, to bfloat16
    return points(position).to(position.dtype).sigmoid()


def class_heads(channels: int, num_classes: int, num_layers: int) -> nn.ModuleList:
    """One linear layer per decoder layer; every class starts at probability 0.01."""
    heads = [nn.Linear(channels, num_classes) for _ in range(num_layers)]
    for head in heads:
        nn.init.constant_(head.bias, -math.log(99))
    return nn.ModuleList(heads)
