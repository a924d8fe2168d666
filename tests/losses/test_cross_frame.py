"""Cross-frame losses (IFR Eq. 6-7) against a double loop over frames, and what they keep in memory."""

from __future__ import annotations

import pytest
import torch
from loss_cases import random_targets
from mask_cases import Kernels, every_pixel, random_kernels, slow_cross_entropy, slow_dice
from torch import Tensor

from vislab.losses import cross_frame
from vislab.losses.cross_frame import cross_frame_losses, point_losses
from vislab.losses.point_sampling import PointSamplingConfig

POINTS = PointSamplingConfig(num_points=10)
SIZE = (4, 6)


def double_loop(masks: Kernels, batch_index: int, queries: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """All ordered pairs of different frames: the kernel of t1 on the features of t2 against the mask of t2."""
    cross_entropy = dice = torch.zeros((), dtype=torch.float64)
    for n, query in enumerate(queries.tolist()):
        for t1 in range(wanted.shape[1]):
            for t2 in range(wanted.shape[1]):
                if t1 != t2:
                    kernel = masks.kernels[batch_index, t1, query]
                    logits = (kernel[:, None, None] * masks.features[batch_index, t2]).sum(0)
                    cross_entropy = cross_entropy + slow_cross_entropy(logits, wanted[n, t2])
                    dice = dice + slow_dice(logits, wanted[n, t2])
    return cross_entropy, dice


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_equals_the_double_loop_forward_and_gradients(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_frame, "uncertain_points", every_pixel)
    predictor, queries = random_kernels(2, 5, frames, SIZE), torch.tensor([3, 0, 1])
    wanted = random_targets(3, frames, 2, seed=4, size=SIZE).masks
    found = cross_frame_losses(predictor, 1, queries, wanted, POINTS, seed=0)
    expected = double_loop(predictor, 1, queries, wanted)
    leaves = (predictor.kernels, predictor.features)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other)
        if frames > 1:
            gradients = [torch.autograd.grad(loss, leaves, retain_graph=True) for loss in (one, other)]
            for fast, slow in zip(*gradients, strict=True):
                torch.testing.assert_close(fast, slow)


def test_own_frames_are_the_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_frame, "uncertain_points", every_pixel)
    predictor, queries = random_kernels(1, 5, 3, SIZE), torch.tensor([3, 0])
    wanted = random_targets(2, 3, 2, seed=4, size=SIZE).masks
    found = point_losses(predictor(0, queries), wanted, POINTS, torch.Generator())
    logits = predictor(0, queries)
    for loss, slow in zip(found, (slow_cross_entropy, slow_dice), strict=True):
        torch.testing.assert_close(loss, sum(slow(logits[n, t], wanted[n, t]) for n in range(2) for t in range(3)))


def test_a_mask_of_one_value_needs_no_particular_points() -> None:
    """Every point says the same, wherever it lies; only at the border do the zeros outside mix in."""
    logits, wanted = torch.full((1, 1, 40, 40), 2.0, dtype=torch.float64), torch.ones(1, 1, 80, 80, dtype=torch.bool)
    config = PointSamplingConfig(500, uncertain_share=0.0)
    cross_entropy, dice = point_losses(logits, wanted, config, torch.Generator().manual_seed(0))
    flat, mask = logits.flatten(), torch.ones(1600, dtype=torch.bool)
    assert cross_entropy.item() == pytest.approx(slow_cross_entropy(flat, mask).item(), rel=0.2)
    assert dice.item() == pytest.approx(slow_dice(flat, mask).item(), rel=0.1)


def test_points_of_the_gradient_are_those_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed again for the gradient draws the same points: equal to keeping everything."""
    wanted, queries = random_targets(2, 3, 2, seed=4, size=(8, 12)).masks, torch.tensor([3, 0])
    results = []
    for keep in (False, True):
        predictor = random_kernels(1, 5, 3, SIZE)
        if keep:
            monkeypatch.setattr(cross_frame, "checkpoint", lambda function, distance, **_: function(distance))
        torch.manual_seed(1 + keep)  # no part of it may read torch's own generator
        losses = cross_frame_losses(predictor, 0, queries, wanted, POINTS, seed=3)
        sum(losses).backward()
        results.append((*losses, predictor.kernels.grad, predictor.features.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def saved_bytes(frames: int) -> int:
    """Bytes that the losses keep for the gradient, on top of the predictor's own tensors."""
    predictor, queries = random_kernels(1, 5, frames, SIZE), torch.tensor([3, 0])
    wanted = random_targets(2, frames, 2, seed=4, size=(8, 12)).masks
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = cross_frame_losses(predictor, 0, queries, wanted, POINTS, seed=3)
    assert all(loss.requires_grad for loss in losses)
    return sum(kept.values())


def test_memory_does_not_grow_with_the_pairs_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    one_set_of_masks = 2 * 12 * SIZE[0] * SIZE[1] * 8
    assert saved_bytes(12) <= one_set_of_masks
    monkeypatch.setattr(cross_frame, "checkpoint", lambda function, distance, **_: function(distance))
    assert saved_bytes(12) > 11 * one_set_of_masks, "the measurement sees what is kept without it"


def test_one_frame_has_no_cross_frame_loss() -> None:
    predictor = random_kernels(1, 5, 1, SIZE)
    losses = cross_frame_losses(predictor, 0, torch.tensor([1]), torch.ones(1, 1, 8, 12).bool(), POINTS, seed=0)
    assert [loss.item() for loss in losses] == [0.0, 0.0]
