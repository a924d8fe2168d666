"""Focal loss against a plain loop."""

from __future__ import annotations

import pytest
import torch
from loss_cases import noise, random_targets, slow_focal

from vislab.losses.classification import classification_loss, sigmoid_focal_loss
from vislab.losses.matching import focal_class_cost


def test_focal_loss_of_each_element() -> None:
    logits, target = noise(3, 5) * 3, (noise(3, 5, seed=1) > 0).double()
    loss = sigmoid_focal_loss(logits, target)
    for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(5)).tolist():
        assert loss[i, j].item() == pytest.approx(slow_focal(logits[i, j].item(), target[i, j].item()), abs=1e-12)


def test_focal_loss_gradient() -> None:
    logits, target = noise(4).requires_grad_(), torch.tensor([0.0, 1.0, 1.0, 0.0]).double()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, target), logits)


@pytest.mark.parametrize("sign", [-1, 1])
def test_focal_loss_of_extreme_logits_is_finite(sign: int) -> None:
    logits = torch.full((2,), sign * 200.0, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0.0, 1.0]))
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all()


def test_class_cost_of_matching_is_focal_loss_of_a_positive_minus_a_negative() -> None:
    logits = noise(4, 3)
    ones, zeros = torch.ones_like(logits), torch.zeros_like(logits)
    expected = sigmoid_focal_loss(logits, ones) - sigmoid_focal_loss(logits, zeros)
    torch.testing.assert_close(focal_class_cost(logits, torch.arange(3)), expected, atol=1e-6, rtol=0)


def test_classification_loss_equals_loops() -> None:
    logits = noise(2, 4, 3)
    targets = [random_targets(2, 1, 3, seed=1), random_targets(1, 1, 3, seed=2)]
    matches = [(torch.tensor([3, 0]), torch.tensor([1, 0])), (torch.tensor([2]), torch.tensor([0]))]
    positives = {
        (clip, int(q), int(target.labels[n]))
        for clip, (target, match) in enumerate(zip(targets, matches, strict=True))
        for q, n in zip(*match, strict=True)
    }
    expected = sum(
        slow_focal(logits[b, q, k].item(), float((b, q, k) in positives))
        for b in range(2)
        for q in range(4)
        for k in range(3)
    )
    assert classification_loss(logits, targets, matches, 3.0).item() == pytest.approx(expected / 3, abs=1e-9)


def test_without_instances_every_query_is_background() -> None:
    logits, empty = noise(1, 4, 3), torch.zeros(0, dtype=torch.int64)
    loss = classification_loss(logits, [random_targets(0, 1, 3, seed=1)], [(empty, empty)], 1.0)
    assert loss.item() == pytest.approx(sum(slow_focal(x, 0.0) for x in logits.flatten().tolist()), abs=1e-9)


def test_frame_logits_are_positive_where_the_instance_is_present() -> None:
    logits = noise(2, 4, 3, 5).requires_grad_()
    targets = [random_targets(2, 3, 5, 1, [[1, 0, 1], [0, 1, 1]]), random_targets(1, 3, 5, seed=2)]
    matches = [(torch.tensor([3, 0]), torch.tensor([1, 0])), (torch.tensor([2]), torch.tensor([0]))]
    classification_loss(logits, targets, matches, 1.0).backward()
    positives = {
        (clip, int(q), t, int(target.labels[n]))
        for clip, (target, match) in enumerate(zip(targets, matches, strict=True))
        for q, n in zip(*match, strict=True)
        for t in range(3)
        if target.present[n, t]
    }
    assert {tuple(index) for index in (logits.grad < 0).nonzero().tolist()} == positives
