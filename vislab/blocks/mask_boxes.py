"""Boxes around masks: first boxes of a decoder (MaskDINO's mask-enhanced box initialisation), boxes of mask models.

Shape letters: h w mask size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


@torch.no_grad()
def mask_boxes(logits: Tensor, kind: Literal["mask2box", "bitmask"] = "bitmask") -> Tensor:
    """Boxes around logits above 0, (..., h, w) to (..., 4) cxcywh in [0, 1] of the map.

    "bitmask": from the outer edges of the first and last pixels; zeros for an empty mask (detectron2's BitMasks).
    "mask2box": between their numbers, half a pixel up and left and one pixel smaller; an empty mask gives a point at
    (1, 1). Both as the released model clamps them (IDEA-Research/MaskDINO maskdino_decoder.py:424-432).
    """
    columns, rows = (logits > 0).any(-2), (logits > 0).any(-1)
    low_x, high_x = _extent(columns)
    low_y, high_y = _extent(rows)
    edge = 1 if kind == "bitmask" else 0
    width, height = logits.shape[-1], logits.shape[-2]
    centre = torch.stack(((low_x + high_x + edge) / 2 / width, (low_y + high_y + edge) / 2 / height), dim=-1)
    size = torch.stack(((high_x - low_x + edge) / width, (high_y - low_y + edge) / height), dim=-1)
    empty = ~columns.any(-1, keepdim=True).expand(*columns.shape[:-1], 2)
    centre = centre.masked_fill(empty, 0.0 if edge else 1.0)
    return torch.cat((centre, size.masked_fill(empty, 0.0)), dim=-1).to(logits.dtype)


def _extent(inside: Tensor) -> tuple[Tensor, Tensor]:
    """First and last True of (..., n) bool, as float32."""
    number = torch.arange(inside.shape[-1], device=inside.device, dtype=torch.float32)
    low = number.masked_fill(~inside, torch.inf).amin(-1)
    return low.nan_to_num(posinf=0.0), number.masked_fill(~inside, 0.0).amax(-1)
