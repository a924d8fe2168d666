"""Iterative box refinement in logit space."""

from __future__ import annotations

import math

import pytest
import torch
from slow_deformable import noise

from vislab.blocks.box_refinement import box_heads, inverse_sigmoid, refine


def test_inverse_sigmoid_inverts_the_sigmoid() -> None:
    x = torch.linspace(-8, 8, 33, dtype=torch.float64)
    torch.testing.assert_close(inverse_sigmoid(x.sigmoid()), x, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("x", "limit"), [(0.0, -1.0), (-3.0, -1.0), (1.0, 1.0), (7.0, 1.0)])
def test_inverse_sigmoid_is_finite_at_and_beyond_the_ends(x: float, limit: float) -> None:
    point = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = inverse_sigmoid(point)
    assert value.item() == pytest.approx(limit * math.log(1e5), abs=1e-9)
    value.backward()
    assert point.grad.isfinite()


def test_no_update_keeps_a_box() -> None:
    boxes = noise(2, 3, 4).sigmoid()
    torch.testing.assert_close(refine(torch.zeros_like(boxes), boxes), boxes)


def test_a_point_leaves_the_size_to_the_update() -> None:
    update, point = noise(5, 4, seed=1), noise(5, 2, seed=2).sigmoid()
    refined = refine(update, point)
    torch.testing.assert_close(refined[:, 2:], update[:, 2:].sigmoid())
    torch.testing.assert_close(refined[:, :2], (update[:, :2] + (point / (1 - point)).log()).sigmoid())


def test_updates_add_up() -> None:
    first, second, box = noise(3, 4, seed=1), noise(3, 4, seed=2), noise(3, 4, seed=3).sigmoid()
    torch.testing.assert_close(refine(second, refine(first, box)), refine(first + second, box))


def test_new_box_heads_move_nothing_and_the_first_starts_small() -> None:
    heads = box_heads(8, 3)
    updates = [head(torch.randn(5, 8)) for head in heads]
    torch.testing.assert_close(updates[0], torch.tensor([0.0, 0.0, -2.0, -2.0]).expand(5, 4))
    assert not torch.stack(updates[1:]).any()
    assert len({id(parameter) for parameter in heads.parameters()}) == 3 * 6
