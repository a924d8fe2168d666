"""Masks of boxes pasted on an image and cut out of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vislab.ops.region_masks import crop_masks, paste_masks


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BOXES = torch.tensor([[3.0, 2.5, 20.0, 13.0], [-5.0, -4.0, 40.0, 9.0], [10.0, 10.0, 11.0, 12.0]], dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_paste_samples_probabilities_as_grid_sample_does(stride: int) -> None:
    logits, size = noise(3, 6, 8), (24 // stride, 32 // stride)
    y = torch.arange(size[0], dtype=torch.float64) * stride + stride // 2 + 0.5
    x = torch.arange(size[1], dtype=torch.float64) * stride + stride // 2 + 0.5
    for mask, box, pasted in zip(logits, BOXES, paste_masks(logits, BOXES, size, stride), strict=True):
        grid_y, grid_x = (y - box[1]) / (box[3] - box[1]) * 2 - 1, (x - box[0]) / (box[2] - box[0]) * 2 - 1
        grid = torch.stack((grid_x.expand(size), grid_y[:, None].expand(size)), dim=-1)[None]
        expected = functional.grid_sample(mask.sigmoid()[None, None], grid, align_corners=False)[0, 0]
        torch.testing.assert_close(pasted.sigmoid(), expected.clamp(1e-6, 1 - 1e-6))


def test_paste_keeps_gradients_and_survives_boxes_without_area() -> None:
    logits = noise(1, 3, 3).requires_grad_()
    box = torch.tensor([[1.2, 0.8, 6.1, 5.3]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: paste_masks(a, b, (7, 8)).clamp(min=-3), (logits, box))
    flat = torch.tensor([[4.0, 4.0, 4.0, 4.0], [6.0, 6.0, 2.0, 1.0]], dtype=torch.float64)
    pasted = paste_masks(noise(2, 3, 3), flat, (7, 8))
    assert pasted.isfinite().all() and (pasted < 0).all()


def test_paste_without_regions_and_in_half_precision() -> None:
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)
    assert paste_masks(noise(3, 4, 4).bfloat16(), BOXES.float(), (5, 6)).dtype == torch.float32


def test_crop_is_the_share_of_covered_area() -> None:
    """Every pixel is split into 20 x 20 points, which are counted."""
    masks = noise(3, 15, 18, seed=2) > 0
    fine = masks.repeat_interleave(20, 1).repeat_interleave(20, 2)
    boxes = torch.tensor([[3.0, 2.5, 12.0, 11.5], [0.0, 0.0, 18.0, 15.0], [6.0, 9.0, 9.0, 12.0]], dtype=torch.float64)
    cropped = crop_masks(masks, boxes, 3)
    for mask, box, got in zip(fine, (boxes * 20).long().tolist(), cropped, strict=True):
        part = mask[box[1] : box[3], box[0] : box[2]].double()
        cells = part.unflatten(0, (3, -1)).unflatten(2, (3, -1)).mean((1, 3))
        torch.testing.assert_close(got, cells)


def test_outside_of_the_image_there_is_nothing() -> None:
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    cropped = crop_masks(mask, torch.tensor([[-4.0, 0.0, 4.0, 8.0]]), 2)
    assert cropped.tolist() == [[[0.0, 1.0], [0.0, 0.0]]]
    assert crop_masks(mask[:0], torch.zeros(0, 4), 28).shape == (0, 28, 28)


def test_paste_undoes_crop() -> None:
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    mask = ((x - 40) / 25) ** 2 + ((y - 30) / 18) ** 2 < 1
    box = torch.tensor([[14.0, 11.0, 66.0, 49.0]])
    logits = (crop_masks(mask[None], box, 28) - 0.5) * 20
    again = paste_masks(logits, box, (60, 80))[0] > 0
    assert (again ^ mask).sum() < 0.03 * mask.sum()
