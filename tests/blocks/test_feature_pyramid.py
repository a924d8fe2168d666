"""FPN against its definition, with sizes that do not halve evenly."""

from __future__ import annotations

import torch
from slow_deformable import noise, randomise
from torch import nn

from vislab.blocks.feature_pyramid import FeaturePyramid


def test_equals_a_sum_over_coarser_levels() -> None:
    sizes, widths = [(9, 12), (5, 6), (2, 3)], (4, 5, 6)
    block = randomise(FeaturePyramid(widths, 3))
    levels = [noise(2, width, *size, seed=i) for i, (width, size) in enumerate(zip(widths, sizes, strict=True))]
    maps = [
        torch.einsum("nchw,dc->ndhw", level, lateral.weight[:, :, 0, 0]) + lateral.bias[:, None, None]
        for level, lateral in zip(levels, block.lateral, strict=True)
    ]
    carried = maps[2]
    expected = [carried]
    for index in (1, 0):
        height, width = sizes[index]
        rows = torch.arange(height) * carried.shape[2] // height
        columns = torch.arange(width) * carried.shape[3] // width
        carried = maps[index] + carried[:, :, rows][..., columns]
        expected.insert(0, carried)
    for got, sum_, smooth in zip(block(levels), expected, block.smooth, strict=True):
        torch.testing.assert_close(got, nn.functional.conv2d(sum_, smooth.weight, smooth.bias, padding=1))


def test_one_level() -> None:
    (only,) = FeaturePyramid((4,), 3)([torch.zeros(1, 4, 5, 7)])
    assert only.shape == (1, 3, 5, 7)
