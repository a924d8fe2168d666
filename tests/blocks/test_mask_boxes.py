"""Boxes around masks against their pixels."""

from __future__ import annotations

import pytest
import torch

from vislab.blocks.mask_boxes import mask_boxes


@pytest.mark.parametrize(("kind", "edge"), [("bitmask", 1), ("mask2box", 0)])
def test_boxes_around_pixels(kind: str, edge: int) -> None:
    masks = torch.rand(2, 7, 5, 9, generator=torch.Generator().manual_seed(0)) < 0.06
    found = mask_boxes(masks.float() - 0.5, kind)  # type: ignore[arg-type]
    assert found.shape == (2, 7, 4)
    for mask, box in zip(masks.flatten(0, 1), found.flatten(0, 1), strict=True):
        pixels = mask.nonzero().tolist()
        if not pixels:
            assert box.tolist() == ([0, 0, 0, 0] if edge else [1, 1, 0, 0])
            continue
        top, bottom = min(p[0] for p in pixels), max(p[0] for p in pixels) + edge
        left, right = min(p[1] for p in pixels), max(p[1] for p in pixels) + edge
        expected = [(left + right) / 18, (top + bottom) / 10, (right - left) / 9, (bottom - top) / 5]
        assert box.tolist() == pytest.approx(expected)


def test_dtype_and_no_masks() -> None:
    assert mask_boxes(torch.zeros(0, 3, 4)).shape == (0, 4)
    assert mask_boxes(torch.ones(1, 3, 4, dtype=torch.float64)).dtype == torch.float64
