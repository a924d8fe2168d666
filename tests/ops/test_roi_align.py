"""RoIAlign against loops over samples, and against torchvision where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vislab.errors import UserError
from vislab.ops.roi_align import Pyramid, level_of_boxes, roi_align, roi_align_map


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(grid: np.ndarray, y: float, x: float) -> np.ndarray:
    """grid: (C, H, W); integer coordinates are cell centres."""
    height, width = grid.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(grid.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    weight_y = np.maximum(0, 1 - np.abs(y - np.arange(height)))
    weight_x = np.maximum(0, 1 - np.abs(x - np.arange(width)))
    return np.einsum("h,w,chw->c", weight_y, weight_x, grid)


def slow(grid: np.ndarray, box: np.ndarray, size: int, ratio: int) -> np.ndarray:
    """(C, size, size) of one box in cells of the grid."""
    x0, y0, x1, y1 = box - 0.5
    bin_h, bin_w = (y1 - y0) / size, (x1 - x0) / size
    out = np.zeros((grid.shape[0], size, size))
    for row in range(size):
        for column in range(size):
            for i in range(ratio):
                for j in range(ratio):
                    y = y0 + row * bin_h + (i + 0.5) * bin_h / ratio
                    x = x0 + column * bin_w + (j + 0.5) * bin_w / ratio
                    out[:, row, column] += sample(grid, y, x) / ratio**2
    return out


BOXES = torch.tensor(
    [[1, 2, 9, 7], [-4, -3, 14, 11], [3.3, 3.3, 3.3, 3.3], [0, 0, 12, 9], [11.5, 8.2, 30, 20]],
    dtype=torch.float64,
)


@pytest.mark.parametrize(("size", "ratio"), [(7, 2), (1, 1), (3, 3)])
def test_equals_loops(size: int, ratio: int) -> None:
    features, image = noise(2, 3, 9, 12), torch.tensor([0, 1, 1, 0, 0])
    pooled = roi_align_map(features, BOXES, image, size, ratio)
    for region, (box, index) in enumerate(zip(BOXES.numpy(), image.tolist(), strict=True)):
        expected = torch.from_numpy(slow(features[index].numpy(), box, size, ratio))
        torch.testing.assert_close(pooled[region], expected, atol=1e-12, rtol=0)


def test_levels_of_a_pyramid_are_read_at_their_strides() -> None:
    levels = [noise(2, 3, *shape, seed=seed) for seed, shape in enumerate([(16, 24), (8, 12), (1, 1)])]
    pyramid = Pyramid.from_levels(levels, [4, 8, 128])
    boxes, image = BOXES * 8, torch.tensor([1, 0, 1, 1, 0])
    level = torch.tensor([0, 1, 1, 2, 0])
    pooled = roi_align(pyramid, boxes, image, level, 2)
    for region in range(len(boxes)):
        grid = levels[level[region]][image[region]].numpy()
        expected = slow(grid, boxes[region].numpy() / pyramid.strides[level[region]], 2, 2)
        torch.testing.assert_close(pooled[region].T.unflatten(1, (2, 2)), torch.from_numpy(expected))


def test_equals_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision")
    features, image = noise(2, 3, 9, 12), torch.tensor([0.0, 1, 1, 0, 0], dtype=torch.float64)
    expected = torchvision.ops.roi_align(
        features, torch.cat((image[:, None], BOXES), dim=1), 7, sampling_ratio=2, aligned=True
    )
    torch.testing.assert_close(roi_align_map(features, BOXES, image.long(), 7), expected)


def test_a_linear_map_gives_the_bins_centres() -> None:
    y, x = torch.arange(20.0, dtype=torch.float64)[:, None] + 0.5, torch.arange(30.0, dtype=torch.float64) + 0.5
    features = torch.stack((y.expand(20, 30), x.expand(20, 30)))[None]
    box = torch.tensor([[4.0, 3.0, 25.0, 17.0]], dtype=torch.float64)
    pooled = roi_align_map(features, box, torch.tensor([0]), 7)[0]
    torch.testing.assert_close(pooled[0, :, 0], 3 + 2 * (torch.arange(7, dtype=torch.float64) + 0.5))
    torch.testing.assert_close(pooled[1, 0], 4 + 3 * (torch.arange(7, dtype=torch.float64) + 0.5))


def test_gradients() -> None:
    features, boxes = noise(2, 2, 5, 6, seed=1).requires_grad_(), BOXES[:2] / 2 + 0.03
    image = torch.tensor([1, 0])
    assert torch.autograd.gradcheck(
        lambda f, b: roi_align_map(f, b, image, 2), (features, boxes.clone().requires_grad_()), atol=1e-5
    )


def test_no_regions_and_no_numbers() -> None:
    features = noise(1, 3, 4, 4)
    empty = roi_align_map(features, BOXES[:0], torch.zeros(0, dtype=torch.int64), 7)
    assert empty.shape == (0, 3, 7, 7)
    wild = torch.tensor([[math.nan, 0.0, 2.0, math.inf]], dtype=torch.float64)
    assert roi_align_map(features, wild, torch.tensor([0]), 2).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_keep_their_dtype(dtype: torch.dtype) -> None:
    features = noise(1, 3, 9, 12)
    pooled = roi_align_map(features.to(dtype), BOXES.float(), torch.zeros(5, dtype=torch.int64), 3)
    assert pooled.dtype == dtype
    expected = roi_align_map(features, BOXES, torch.zeros(5, dtype=torch.int64), 3)
    torch.testing.assert_close(pooled.double(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=0)


def test_wrong_arguments() -> None:
    features, image = noise(1, 3, 4, 4), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(UserError, match="size is 0 and sampling_ratio 2"):
        roi_align_map(features, BOXES, image, 0)
    with pytest.raises(UserError, match=r"boxes have shape \(5, 3\), expected \(R, 4\)"):
        roi_align_map(features, BOXES[:, :3], image, 2)
    with pytest.raises(UserError, match="1 levels with 2 strides"):
        Pyramid.from_levels([features], [4, 8])


@pytest.mark.parametrize(
    ("side", "level"), [(0, 0), (1, 0), (111.9, 0), (112.1, 1), (223.9, 1), (224.1, 2), (448.1, 3), (4000, 3)]
)
def test_level_of_boxes(side: float, level: int) -> None:
    box = torch.tensor([[5.0, 6.0, 5.0 + side / 2, 6.0 + side * 2]])
    assert level_of_boxes(box, 4).tolist() == [level]
    assert level_of_boxes(box / 4, 4, finest_scale=14.0).tolist() == [level]


def test_boxes_turned_inside_out_belong_to_the_finest_level() -> None:
    assert level_of_boxes(torch.tensor([[300.0, 300.0, 0.0, 0.0], [300.0, 0.0, 0.0, 300.0]]), 4).tolist() == [0, 0]
