"""Dice and focal losses of mask sequences against loops."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import noise, random_output, random_targets, slow_focal

from vislab.losses.masks import dice_loss, mask_losses, squared_dice_loss

TARGETS = [random_targets(2, 3, 5, 1, [[1, 0, 1], [1, 1, 1]]), random_targets(1, 3, 5, 2)]
MATCHES = [(torch.tensor([2, 0]), torch.tensor([1, 0])), (torch.tensor([2]), torch.tensor([0]))]


@pytest.mark.parametrize("stride", [4, 2, 1])
def test_equals_loops_over_the_pixels_that_the_targets_are_read_at(stride: int) -> None:
    height, width = 16 // stride, 24 // stride
    output = random_output(2, 4, 3, 5, size=(height, width))
    dice = focal = 0.0
    for clip, (target, match) in enumerate(zip(TARGETS, MATCHES, strict=True)):
        for q, n in zip(*(index.tolist() for index in match), strict=True):
            overlap = area = wanted_area = loss = 0.0
            for t in range(3):
                for i in range(height):
                    for j in range(width):
                        logit = output.pred_masks.logits[clip, q, t, i, j].item()
                        wanted = float(target.masks[n, t, stride * i + stride // 2, stride * j + stride // 2])
                        probability = 1 / (1 + math.exp(-logit))
                        overlap += probability * wanted
                        area += probability
                        wanted_area += wanted
                        loss += slow_focal(logit, wanted)
            dice += 1 - (2 * overlap + 1) / (area + wanted_area + 1)
            focal += loss / (3 * height * width)
    found = mask_losses(output, TARGETS, MATCHES, stride, 3.0)
    assert found[0].item() == pytest.approx(dice / 3, abs=1e-5)
    assert found[1].item() == pytest.approx(focal / 3, abs=1e-5)


def test_dice_of_perfect_and_of_empty_masks() -> None:
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    logits = torch.where(target > 0, 100.0, -100.0)
    torch.testing.assert_close(dice_loss(logits, target), torch.zeros(2))
    torch.testing.assert_close(dice_loss(-logits, target), torch.tensor([1 - 1 / 4, 1 - 1 / 4]))


def test_squared_dice_of_half_certain_masks() -> None:
    target, logits = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.zeros(2, 2)
    eps = 2e-5
    expected = torch.tensor([1 - 2 * 0.5 / (2 * 0.25 + 1 + eps), 1.0])
    torch.testing.assert_close(squared_dice_loss(logits, target), expected)


def test_squared_dice_gradient() -> None:
    target = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: squared_dice_loss(x, target), noise(1, 3).requires_grad_())


def test_dice_gradient() -> None:
    target = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, target), noise(1, 3).requires_grad_())


def test_only_matched_queries_get_a_gradient() -> None:
    output = random_output(2, 4, 3, 5)
    sum(mask_losses(output, TARGETS, MATCHES, 4, 3.0)).backward()
    touched = output.pred_masks.logits.grad.abs().sum((2, 3, 4)) > 0
    assert touched.tolist() == [[True, False, True, False], [False, False, True, False]]


def test_no_instances() -> None:
    output, empty = random_output(1, 4, 3, 5), torch.zeros(0, dtype=torch.int64)
    losses = mask_losses(output, [random_targets(0, 3, 5, 1)], [(empty, empty)], 4, 1.0)
    assert [loss.item() for loss in losses] == [0, 0]
    sum(losses).backward()
    assert not output.pred_masks.logits.grad.any()
