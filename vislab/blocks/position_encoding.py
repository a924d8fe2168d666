"""Position encodings: sines over space and time, and learned vectors per frame.

Shape letters: B batch, T frames, C channels, H W feature map size.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

TEMPERATURE = 10000.0
EPSILON = 1e-6


def _interleaved_sine(position: Tensor, channels: int) -> Tensor:
    """position: (...). Returns (..., channels): sine on even, cosine on odd channels."""
    index = torch.arange(channels, dtype=torch.float32, device=position.device)
    frequency = TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode="floor") / channels)
    angle = position[..., None] / frequency
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)


def spatial_sine_encoding(padding_mask: Tensor, channels: int, offset: float = -0.5) -> Tensor:
    """Sine encoding of the pixel position inside the unpadded image (e^s of TAFormer Eq. 6).

    Args:
        padding_mask: (B, H, W) bool, True where padded.
        channels: C, a multiple of 4; the first half encodes y, the second x.
        offset: added to the 1-based pixel count: -0.5 (pixel centres; SeqFormer, Deformable DETR) or 0 (DeVIS).

    Returns:
        (B, H, W, C) float32. Source: SeqFormer models/position_encoding.py:45-46.
    """
    assert channels % 4 == 0, f"channels must be a multiple of 4, got {channels}"
    valid = (~padding_mask).to(torch.float32)
    y, x = valid.cumsum(1), valid.cumsum(2)
    y = (y + offset) / (y[:, -1:, :] + EPSILON) * 2 * math.pi
    x = (x + offset) / (x[:, :, -1:] + EPSILON) * 2 * math.pi
    return torch.cat((_interleaved_sine(y, channels // 2), _interleaved_sine(x, channels // 2)), dim=-1)


def temporal_sine_encoding(
    num_frames: int, channels: int, mode: Literal["index", "normalised"] = "index", device: torch.device | None = None
) -> Tensor:
    """Sine encoding of the frame's place in the clip (e^t of TAFormer Eq. 6), for clips of any length.

    Args:
        num_frames: T.
        channels: C, even.
        mode: "index" encodes 0..T-1 as it is, so that a longer clip does not rescale it (the paper states neither
            frequencies nor normalisation; our choice); "normalised" maps the clip to (0, 2 pi].

    Returns:
        (T, C) float32.
    """
    position = torch.arange(num_frames, dtype=torch.float32, device=device)
    if mode == "normalised":
        position = (position + 0.5) / (num_frames + EPSILON) * 2 * math.pi
    return _interleaved_sine(position, channels)


def clip_sine_encoding(padding_mask: Tensor, num_frames: int, channels: int) -> Tensor:
    """Sine encoding of frame, row and column, each in a third of the channels (Wang et al., VisTR, section 3.2).

    Every axis is normalised to (0, 2 pi], time too: a longer clip rescales it. Padded pixels are at time 0.

    Args:
        padding_mask: (B, H, W) bool, True where padded, the same in all frames.
        num_frames: T.
        channels: C, a multiple of 6.

    Returns:
        (B, T, H, W, C) float32: time, then y, then x. Source: Epiphqny/VisTR models/position_encoding.py:29-57.
    """
    assert channels % 6 == 0, f"channels must be a multiple of 6, got {channels}"
    valid = (~padding_mask).to(torch.float32)[:, None].expand(-1, num_frames, -1, -1)
    axes = [valid.cumsum(axis) for axis in (1, 2, 3)]
    lasts = [axes[0][:, -1:], axes[1][:, :, -1:], axes[2][..., -1:]]
    positions = [axis / (last + EPSILON) * 2 * math.pi for axis, last in zip(axes, lasts, strict=True)]
    return torch.cat([_interleaved_sine(position, channels // 3) for position in positions], dim=-1)


class LearnedTemporalEncoding(nn.Module):
    """One learned vector per frame of a clip, N(0, 1) at first (DeVIS src/models/position_encoding.py:106-124)."""

    def __init__(self, num_frames: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_frames, channels))

    def forward(self) -> Tensor:
        """Returns (T, C)."""
        return self.weight


def sine_encoding(numbers: Tensor, channels: int) -> Tensor:
    """Sine encoding of numbers as they are, such as absolute frame numbers (RefineVIS section 3.4).

    numbers: (...), of any dtype. channels: C, even. Returns (..., C), float32 for integers.
    """
    return _interleaved_sine(numbers if numbers.is_floating_point() else numbers.to(torch.float32), channels)
