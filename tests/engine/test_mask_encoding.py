"""Where mask logits lie, and which pixels of an image belong to a mask."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vislab.engine.mask_encoding as mask_encoding
from vislab.engine.mask_encoding import MaskSampling, encode_masks, resize_masks
from vislab.rle import decode


@pytest.mark.parametrize("size", [(64, 96), (37, 51), (128, 200), (1, 3)])
@pytest.mark.parametrize("stride", [1, 4, 8])
def test_interpolate_alignment_equals_torch(size: tuple[int, int], stride: int) -> None:
    logits = torch.randn(3, 8, 12)
    sampling = MaskSampling(stride, (8 * stride, 12 * stride), "interpolate")
    expected = nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resize_masks(logits, sampling, size), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(48, 80), (31, 77), (96, 160)])
def test_target_alignment_recovers_a_linear_function_of_the_pixel(stride: int, size: tuple[int, int]) -> None:
    """Logit (i, j) lies at pixel stride*i + stride//2: a function that is linear there is so in the resized mask."""

    def plane(y: Tensor, x: Tensor) -> Tensor:
        return 0.3 * y[:, None] - 0.2 * x + 1

    height, width = 64, 96
    centres = [torch.arange(side // stride) * stride + stride // 2 for side in (height, width)]
    resized = resize_masks(plane(*centres)[None], MaskSampling(stride, (height, width)), size)[0]
    y, x = ((torch.arange(out) + 0.5) * side / out - 0.5 for out, side in zip(size, (height, width), strict=True))
    inside = [(v >= c[0]) & (v <= c[-1]) for v, c in ((y, centres[0]), (x, centres[1]))]
    expected = plane(y, x)[inside[0]][:, inside[1]]
    torch.testing.assert_close(resized[inside[0]][:, inside[1]], expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("alignment", ["target", "interpolate"])
@pytest.mark.parametrize("inside", [(33, 50), (36, 52), (2, 1), (64, 64)])
def test_logits_in_the_padding_are_never_read(alignment: str, inside: tuple[int, int]) -> None:
    logits = torch.full((1, 16, 16), 1e9)
    rows, columns = (max(1, math.ceil(side / 4)) for side in inside)
    logits[:, :rows, :columns] = 1.0
    resized = resize_masks(logits, MaskSampling(4, inside, alignment), (45, 45))  # type: ignore[arg-type]
    assert resized.max() == 1.0


def test_masks_are_cut_above_the_threshold_and_empty_ones_are_none() -> None:
    logits = torch.full((2, 3, 4, 4), -5.0)
    logits[0, 0] = 0.5
    logits[1, 2, :2] = 2.0
    sampling = MaskSampling(1, (4, 4))
    low = encode_masks(logits, sampling, (4, 4), 0.5)
    assert [[code is not None for code in codes] for codes in low] == [[True, False, False], [False, False, True]]
    assert np.array_equal(decode(low[1][2], 4, 4), (logits[1, 2] > 0).numpy())
    high = encode_masks(logits, sampling, (4, 4), 1 / (1 + math.exp(-1.0)))
    assert high[0] == [None, None, None] and high[1][2] is not None
    everything = encode_masks(logits, sampling, (4, 4), 0.0)
    assert all(decode(code, 4, 4).all() for codes in everything for code in codes)


def test_few_masks_at_a_time_give_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, sampling = torch.randn(3, 5, 6, 7), MaskSampling(4, (21, 26))
    whole = encode_masks(logits, sampling, (33, 29), 0.5)
    assert [len(codes) for codes in whole] == [5, 5, 5]
    largest: list[int] = []
    resize: Callable[..., Tensor] = mask_encoding.resize_masks

    def watched(part: Tensor, *arguments) -> Tensor:  # type: ignore[no-untyped-def]
        resized = resize(part, *arguments)
        largest.append(resized.numel())
        return resized

    monkeypatch.setattr(mask_encoding, "resize_masks", watched)
    monkeypatch.setattr(mask_encoding, "PIXELS_AT_ONCE", 2 * 33 * 29)
    assert encode_masks(logits, sampling, (33, 29), 0.5) == whole
    assert max(largest) == 2 * 33 * 29
