"""3-D sine encoding of Mask2Former-VIS against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from vislab.blocks.volume_encoding import frame_sine_encoding, volume_sine_encoding


def wave(index: int, count: int, channel: int, channels: int) -> float:
    """1-based index out of count, scaled to (0, 2 pi]; sine on even, cosine on odd channels."""
    angle = (index + 1) / (count + 1e-6) * 2 * math.pi / 10000 ** (2 * (channel // 2) / channels)
    return math.cos(angle) if channel % 2 else math.sin(angle)


@pytest.mark.parametrize(("frames", "height", "width", "channels"), [(1, 1, 1, 4), (3, 2, 5, 8), (2, 3, 1, 12)])
def test_rows_and_columns_side_by_side_plus_frames(frames: int, height: int, width: int, channels: int) -> None:
    found = volume_sine_encoding(frames, (height, width), channels)
    assert found.shape == (frames, height, width, channels) and found.dtype == torch.float32
    half = channels // 2
    for t in range(frames):
        for y in range(height):
            for x in range(width):
                space = [wave(y, height, c, half) for c in range(half)] + [wave(x, width, c, half) for c in range(half)]
                expected = [part + wave(t, frames, c, channels) for c, part in enumerate(space)]
                torch.testing.assert_close(found[t, y, x], torch.tensor(expected), atol=1e-5, rtol=0)


def test_frames_alone() -> None:
    found = frame_sine_encoding(4, 6)
    expected = torch.tensor([[wave(t, 4, c, 6) for c in range(6)] for t in range(4)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
