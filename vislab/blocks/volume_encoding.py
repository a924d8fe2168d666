"""Sine encoding of space and time together (Mask2Former-VIS).

Shape letters: T frames, C channels, H W feature map size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vislab.blocks.position_encoding import spatial_sine_encoding


def frame_sine_encoding(num_frames: int, channels: int, device: torch.device | None = None) -> Tensor:
    """(T, C) float32: frames 1..T scaled to (0, 2 pi], all C channels on one axis."""
    clip_as_column = torch.zeros(1, num_frames, 1, dtype=torch.bool, device=device)
    # the first half of the channels encodes rows; rows of a map one pixel wide are frames
    return spatial_sine_encoding(clip_as_column, 2 * channels, offset=0.0)[0, :, 0, :channels]


def volume_sine_encoding(
    num_frames: int, size: tuple[int, int], channels: int, device: torch.device | None = None
) -> Tensor:
    """cat(y, x) of C / 2 channels each, plus z of C channels with frequencies of its own; each axis scaled to
    (0, 2 pi], without the half-pixel shift.

    Returns (T, H, W, C) float32. Source: Mask2Former
    mask2former_video/modeling/transformer_decoder/position_encoding.py:29-57.
    """
    space = spatial_sine_encoding(torch.zeros(1, *size, dtype=torch.bool, device=device), channels, offset=0.0)
    return space + frame_sine_encoding(num_frames, channels, device)[:, None, None]
