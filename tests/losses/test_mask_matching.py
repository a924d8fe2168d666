"""Matching cost of IFR Eq. 4 and the assignment."""

from __future__ import annotations

import itertools

import pytest
import torch
from loss_cases import noise, random_targets
from mask_cases import Kernels, kernel_output, pixel_centres, slow_cross_entropy, slow_dice

from vislab.losses import mask_matching
from vislab.losses.mask_matching import MaskCostConfig, MaskMatcherConfig, match_masks, pairwise_mask_costs
from vislab.structures import ModelOutput

MATCHER = MaskMatcherConfig(num_points=24)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pairwise_costs_are_those_of_every_pair() -> None:
    logits, masks = noise(3, 20, seed=1), noise(2, 20, seed=2) > 0
    cross_entropy, dice = pairwise_mask_costs(logits, masks.double())
    for q in range(3):
        for n in range(2):
            torch.testing.assert_close(cross_entropy[q, n], slow_cross_entropy(logits[q], masks[n]))
            torch.testing.assert_close(dice[q, n], slow_dice(logits[q], masks[n]))


def test_extreme_logits_have_finite_costs() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    cross_entropy, dice = pairwise_mask_costs(logits, torch.tensor([[1.0, 0.0]]))
    assert cross_entropy.isfinite().all() and cross_entropy[0, 0] == 0 and cross_entropy[1, 0] == 1e4
    torch.testing.assert_close(dice[:, 0], torch.tensor([0.0, 2 / 3]))


def test_equation_4() -> None:
    config = MaskCostConfig()
    assert (config.class_cost, config.mask_cost, config.dice_cost) == (2, 5, 5)
    scores, labels = noise(3, 4, seed=3).sigmoid(), torch.tensor([2, 0])
    logits, masks = noise(3, 20, seed=1), noise(2, 20, seed=2) > 0
    found = config.combine(scores, labels, logits, masks.double())
    for q in range(3):
        for n, label in enumerate((2, 0)):
            mask_cost = 5 * slow_cross_entropy(logits[q], masks[n]) + 5 * slow_dice(logits[q], masks[n])
            torch.testing.assert_close(found[q, n], mask_cost - 2 * scores[q, label])


@pytest.mark.parametrize("instances", [1, 3, 5])
def test_finds_the_best_assignment(instances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points at all pixels, so that costs can be had from the definition; all assignments are tried."""
    size, output = (4, 6), kernel_output(2, 4, 2, 3)
    targets = [random_targets(instances, 2, 3, seed, size=size) for seed in (1, 2)]
    monkeypatch.setattr(mask_matching, "random_points", lambda *_: pixel_centres(*size)[None])
    for b, (rows, columns) in enumerate(match_masks(output, targets, MATCHER, generator())):
        logits, masks = output.pred_masks(b, torch.arange(4)).flatten(1), targets[b].masks.flatten(1)
        scores = output.pred_logits[b].sigmoid()
        cost = [
            [
                5 * slow_cross_entropy(logits[q], masks[n]).item()
                + 5 * slow_dice(logits[q], masks[n]).item()
                - 2 * scores[q, targets[b].labels[n]].item()
                for n in range(instances)
            ]
            for q in range(4)
        ]
        count = min(4, instances)
        best = min(
            sum(cost[q][n] for q, n in zip(queries, chosen, strict=True))
            for queries in itertools.permutations(range(4), count)
            for chosen in itertools.combinations(range(instances), count)
        )
        found = sum(cost[q][n] for q, n in zip(rows.tolist(), columns.tolist(), strict=True))
        assert len(set(rows.tolist())) == len(rows) == count
        torch.testing.assert_close(found, best)


def test_points_are_shared_by_queries_instances_and_frames() -> None:
    """A query with the very mask of an instance costs the least, wherever the points fall."""
    target = random_targets(3, 2, 3, seed=1, size=(4, 6))
    features = 40.0 * target.masks.transpose(0, 1)[None] - 20.0
    order = torch.tensor([2, 0, 1])
    output = ModelOutput(
        torch.zeros(1, 3, 3), torch.zeros(1, 3, 2, 4), Kernels(torch.eye(3)[order].expand(1, 2, 3, 3), features)
    )
    for seed in range(5):
        ((rows, columns),) = match_masks(output, [target], MATCHER, generator(seed))
        assert order[rows].tolist() == columns.tolist()


def test_scores_come_from_the_output_itself() -> None:
    """A model with a logit for no object ranks by its softmax."""

    class WithNoObject(ModelOutput):
        def class_scores(self) -> torch.Tensor:
            return self.pred_logits.softmax(-1)[..., :-1]

    logits = torch.tensor([[[0.0, 0.0, 9.0], [-2.0, -2.0, -9.0]]])
    target = random_targets(1, 1, 2, seed=1)
    same = Kernels(torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 3, 4, 6))
    boxes = torch.zeros(1, 2, 1, 4)
    assert match_masks(ModelOutput(logits, boxes, same), [target], MATCHER, generator())[0][0].item() == 0
    assert match_masks(WithNoObject(logits, boxes, same), [target], MATCHER, generator())[0][0].item() == 1


def test_no_instances_and_not_a_number() -> None:
    output = kernel_output(2, 4, 2, 3)
    targets = [random_targets(0, 2, 3, seed=1), random_targets(2, 2, 3, seed=2)]
    empty, full = match_masks(output, targets, MATCHER, generator())
    assert [len(part) for part in (*empty, *full)] == [0, 0, 2, 2]
    with torch.no_grad():
        output.pred_logits[1, 0] = torch.nan
    assert 0 not in match_masks(output, targets, MATCHER, generator())[1][0].tolist()
