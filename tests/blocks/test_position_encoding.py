"""Sine encodings against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from vislab.blocks.position_encoding import (
    LearnedTemporalEncoding,
    clip_sine_encoding,
    sine_encoding,
    spatial_sine_encoding,
    temporal_sine_encoding,
)


def sine(position: float, channel: int, channels: int) -> float:
    angle = position / 10000 ** (2 * (channel // 2) / channels)
    return math.cos(angle) if channel % 2 else math.sin(angle)


def slow_spatial(padding: list[list[bool]], channels: int, offset: float) -> list:
    """Counts the unpadded pixels of each column and row; (H, W, C)."""
    height, width, half = len(padding), len(padding[0]), channels // 2
    result = [[[0.0] * channels for _ in range(width)] for _ in range(height)]
    for i in range(height):
        for j in range(width):
            y = sum(not padding[k][j] for k in range(i + 1)) + offset
            x = sum(not padding[i][k] for k in range(j + 1)) + offset
            y *= 2 * math.pi / (sum(not padding[k][j] for k in range(height)) + 1e-6)
            x *= 2 * math.pi / (sum(not padding[i][k] for k in range(width)) + 1e-6)
            for c in range(half):
                result[i][j][c] = sine(y, c, half)
                result[i][j][half + c] = sine(x, c, half)
    return result


@pytest.mark.parametrize("offset", [-0.5, 0.0])
@pytest.mark.parametrize(("height", "width", "valid"), [(1, 1, (1, 1)), (3, 5, (3, 5)), (6, 7, (4, 5))])
def test_spatial_encoding_equals_loops(height: int, width: int, valid: tuple[int, int], offset: float) -> None:
    padding = torch.ones(2, height, width, dtype=torch.bool)
    padding[0, : valid[0], : valid[1]] = False
    padding[1] = False
    found = spatial_sine_encoding(padding, 8, offset)
    assert found.dtype == torch.float32
    inside = ~padding[0]
    for clip in range(2):
        expected = torch.tensor(slow_spatial(padding[clip].tolist(), 8, offset))
        torch.testing.assert_close(found[clip][inside], expected[inside], atol=1e-5, rtol=0)


def test_spatial_encoding_does_not_see_the_padding() -> None:
    padded = torch.ones(1, 8, 9, dtype=torch.bool)
    padded[:, :5, :7] = False
    alone = spatial_sine_encoding(torch.zeros(1, 5, 7, dtype=torch.bool), 12)
    torch.testing.assert_close(spatial_sine_encoding(padded, 12)[:, :5, :7], alone)
    assert spatial_sine_encoding(padded, 12).isfinite().all()


def test_spatial_encoding_of_half_pixels_is_symmetric() -> None:
    """With offset -0.5 pixel i and its mirror image lie equally far from both ends: sines differ in sign only."""
    encoding = spatial_sine_encoding(torch.zeros(1, 6, 6, dtype=torch.bool), 4)[0, :, 0, 0]
    torch.testing.assert_close(encoding, -encoding.flip(0), atol=1e-5, rtol=0)


def test_channels_must_be_a_multiple_of_four() -> None:
    with pytest.raises(AssertionError, match="multiple of 4"):
        spatial_sine_encoding(torch.zeros(1, 2, 2, dtype=torch.bool), 6)


@pytest.mark.parametrize("frames", [1, 5, 40])
def test_temporal_encoding_of_the_frame_index(frames: int) -> None:
    expected = [[sine(t, c, 6) for c in range(6)] for t in range(frames)]
    torch.testing.assert_close(temporal_sine_encoding(frames, 6), torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 5])
def test_temporal_encoding_of_the_normalised_index(frames: int) -> None:
    expected = [[sine((t + 0.5) / (frames + 1e-6) * 2 * math.pi, c, 6) for c in range(6)] for t in range(frames)]
    found = temporal_sine_encoding(frames, 6, "normalised")
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_longer_clip_does_not_rescale_the_index_encoding() -> None:
    assert torch.equal(temporal_sine_encoding(9, 8)[:4], temporal_sine_encoding(4, 8))
    long, short = (temporal_sine_encoding(frames, 8, "normalised") for frames in (9, 4))
    assert not torch.allclose(long[:4], short)


@pytest.mark.parametrize(
    ("frames", "height", "width", "valid"), [(1, 1, 1, (1, 1)), (3, 4, 5, (2, 3)), (2, 3, 2, (3, 2))]
)
def test_clip_encoding_equals_loops(frames: int, height: int, width: int, valid: tuple[int, int]) -> None:
    """VisTR: a third each for frame, row and column, every one counted up to 2 pi; padding is at 0 on its axes."""
    padding = torch.ones(2, height, width, dtype=torch.bool)
    padding[0, : valid[0], : valid[1]] = False
    padding[1] = False
    found = clip_sine_encoding(padding, frames, 12)
    assert found.shape == (2, frames, height, width, 12)
    for sample, (rows, columns) in enumerate((valid, (height, width))):
        for t in range(frames):
            for i in range(height):
                for j in range(width):
                    inside = i < rows and j < columns
                    counts = (
                        (t + 1) / frames if inside else 0,
                        min(i + 1, rows) / rows if j < columns else 0,
                        min(j + 1, columns) / columns if i < rows else 0,
                    )
                    expected = [sine(count * 2 * math.pi, c, 4) for count in counts for c in range(4)]
                    assert found[sample, t, i, j].tolist() == pytest.approx(expected, abs=2e-5)


def test_clip_encoding_needs_three_even_parts() -> None:
    with pytest.raises(AssertionError, match="multiple of 6"):
        clip_sine_encoding(torch.zeros(1, 2, 2, dtype=torch.bool), 2, 8)


def test_learned_encoding_is_one_standard_normal_vector_per_frame() -> None:
    torch.manual_seed(0)
    encoding = LearnedTemporalEncoding(6, 4096)
    assert encoding() is encoding.weight and encoding.weight.shape == (6, 4096)
    torch.testing.assert_close(encoding().std(dim=1), torch.ones(6), atol=0.05, rtol=0)
    assert encoding().mean(dim=1).abs().max() < 0.1


def test_numbers_are_encoded_as_they_are() -> None:
    found = sine_encoding(torch.tensor([[0, 7, 300]]), 6)
    assert found.shape == (1, 3, 6) and found.dtype == torch.float32
    torch.testing.assert_close(found[0, 1], temporal_sine_encoding(8, 6)[7])
    assert found[0, 2].tolist() == pytest.approx([sine(300, c, 6) for c in range(6)], abs=1e-4)
    assert sine_encoding(torch.tensor([0.5], dtype=torch.float64), 4).dtype == torch.float64
