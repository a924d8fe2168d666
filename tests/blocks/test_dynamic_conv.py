"""Dynamic convolution against loops over regions and places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_deformable import linear, noise, randomise
from torch import nn

from vislab.blocks.dynamic_conv import DynamicConvolution


def normalised(norm: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean()
    scaled = centred / np.sqrt((centred**2).mean() + norm.eps)
    return np.maximum(0, scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy())


@pytest.mark.parametrize(("channels", "inner", "places"), [(6, 3, 4), (4, 8, 1), (5, 1, 9)])
def test_equals_loops(channels: int, inner: int, places: int) -> None:
    block = randomise(DynamicConvolution(channels, inner, places))
    queries, regions = noise(3, channels), noise(3, places, channels, seed=1)
    plain = randomise(DynamicConvolution(channels, inner))
    plain.load_state_dict({n: p for n, p in block.state_dict().items() if not n.startswith("projection")})
    for query, region, vector, filtered in zip(
        queries.numpy(), regions.numpy(), block(queries, regions), plain(queries, regions), strict=True
    ):
        parameters = linear(block.parameter_layer, query)
        reduce = parameters[: channels * inner].reshape(channels, inner)
        expand = parameters[channels * inner :].reshape(inner, channels)
        rows = [normalised(block.outer_norm, normalised(block.inner_norm, row @ reduce) @ expand) for row in region]
        np.testing.assert_allclose(filtered.detach(), rows, atol=1e-12)
        projected = linear(block.projection, np.concatenate(rows))
        np.testing.assert_allclose(vector.detach(), normalised(block.projection_norm, projected), atol=1e-12)


def test_no_regions() -> None:
    block = DynamicConvolution(4, 2, 9)
    assert block(torch.zeros(0, 4), torch.zeros(0, 9, 4)).shape == (0, 4)


def test_parameters_of_the_released_head() -> None:
    """256 channels, 64 inside, 7 x 7 bins: 8,421,376 to make the filters, 3,211,520 to project."""
    with torch.device("meta"):
        block = DynamicConvolution(256, 64, 49)
    assert sum(p.numel() for p in block.parameters()) == 32768 * 257 + 12544 * 256 + 256 + 2 * (64 + 256 + 256)
