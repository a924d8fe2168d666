"""Tests of vislab/ops/boxes.py (the plain name belongs to the losses' room)."""

from __future__ import annotations

import pytest
import torch

from vislab.ops import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh, generalized_box_iou, generalized_box_iou_pairwise
from vislab.ops.boxes import box_iou_pairwise


def random_boxes(count: int, seed: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([corners.amin(1), corners.amax(1)], -1)


def giou_of_two(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return overlap / union - (hull - union) / hull


def test_formats() -> None:
    boxes = torch.tensor([[0.5, 0.25, 1.0, 0.5]])
    assert box_cxcywh_to_xyxy(boxes).tolist() == [[0.0, 0.0, 1.0, 0.5]]
    assert torch.equal(box_xyxy_to_cxcywh(box_cxcywh_to_xyxy(boxes)), boxes)


def test_pairwise_equals_plain_arithmetic() -> None:
    first, second = random_boxes(7, 0), random_boxes(5, 1)
    expected = [[giou_of_two(a, b) for b in second.tolist()] for a in first.tolist()]
    torch.testing.assert_close(generalized_box_iou_pairwise(first, second), torch.tensor(expected, dtype=torch.float64))


def test_elementwise_is_the_diagonal_and_broadcasts() -> None:
    first, second = random_boxes(6, 2), random_boxes(6, 3)
    pairs = generalized_box_iou_pairwise(first, second)
    assert torch.equal(generalized_box_iou(first, second), pairs.diagonal())
    assert torch.equal(generalized_box_iou(first[:, None], second), pairs)


def test_known_values() -> None:
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert generalized_box_iou(unit, unit) == 1
    assert generalized_box_iou(unit, unit + 1) == -0.5  # two of the four quarters of the hull
    assert generalized_box_iou(unit, unit, eps=1.0) == 0.5
    assert generalized_box_iou(unit, unit + 2, eps=1.0) == (0 + 1) / (2 + 1) - (7 + 1) / (9 + 1)


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_boxes_without_area_have_finite_values_and_gradients(eps: float) -> None:
    point = torch.zeros(4, requires_grad=True)
    inverted = torch.tensor([1.0, 1.0, 0.0, 0.0], requires_grad=True)
    for other in (point, inverted):
        giou = generalized_box_iou(point, other, eps=eps)
        assert giou.isfinite() and -1 <= giou <= 1
        assert all(g.isfinite().all() for g in torch.autograd.grad(giou, (point, other), allow_unused=True))


def test_gradcheck() -> None:
    boxes = random_boxes(4, 4).requires_grad_(), random_boxes(4, 5).requires_grad_()
    assert torch.autograd.gradcheck(generalized_box_iou, boxes)


def test_no_boxes() -> None:
    assert generalized_box_iou_pairwise(torch.zeros(0, 4), torch.zeros(3, 4)).shape == (0, 3)


def test_iou_of_pairs() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 3.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    torch.testing.assert_close(box_iou_pairwise(a, b), torch.tensor([[1 / 5, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert box_iou_pairwise(a[:0], b).shape == (0, 3)
