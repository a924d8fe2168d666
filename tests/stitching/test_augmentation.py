"""Test-time augmentation by matching (IFR section 3.2)."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vislab.losses.mask_matching import MaskCostConfig
from vislab.stitching.augmentation import (
    QueryPredictions,
    average_masks,
    average_predictions,
    average_scores,
    match_to_pivot,
    random_pivot,
)


def objects(queries: int = 4, frames: int = 2, seed: int = 0, noise: float = 0.0) -> QueryPredictions:
    """Every query has a class and an upright bar of its own; noise disturbs scores and masks."""
    generator = torch.Generator().manual_seed(seed)
    mask_logits = torch.full((queries, frames, 6, 2 * queries), -4.0)
    for query in range(queries):
        mask_logits[query, :, :, 2 * query : 2 * query + 2] = 4.0
    scores = torch.full((queries, 3), 0.1)
    scores[torch.arange(queries), torch.arange(queries) % 3] = 0.8
    disturb = lambda x: x + noise * torch.randn(x.shape, generator=generator)  # noqa: E731
    return QueryPredictions(disturb(scores).clamp(0, 1), disturb(mask_logits))


def shuffled(result: QueryPredictions, order: Tensor) -> QueryPredictions:
    return QueryPredictions(result.scores[order], result.mask_logits[order])


ORDERS = [torch.tensor(order) for order in ((0, 1, 2, 3), (2, 0, 3, 1), (3, 2, 1, 0), (1, 3, 0, 2))]


@pytest.mark.parametrize("pivot", range(4))
def test_finds_the_same_object_in_every_result(pivot: int) -> None:
    results = [shuffled(objects(seed=seed, noise=0.1), order) for seed, order in enumerate(ORDERS)]
    queries = match_to_pivot(results, pivot)
    for order, row in zip(ORDERS, queries, strict=True):
        assert torch.equal(order[row], ORDERS[pivot])


@pytest.mark.parametrize("pivot", range(4))
def test_independent_of_the_pivot_when_predictions_agree(pivot: int) -> None:
    """The same predictions, each result in an order of its own: always the one prediction, in the pivot's order."""
    truth = objects(noise=0.1)
    found = average_predictions([shuffled(truth, order) for order in ORDERS], pivot)
    expected = shuffled(truth, ORDERS[pivot])
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.mask_logits, expected.mask_logits, atol=1e-4, rtol=1e-4)


def test_averages_probabilities_not_logits() -> None:
    results = [objects(seed=seed, noise=0.3) for seed in range(3)]
    found = average_predictions(results, pivot=1)
    torch.testing.assert_close(found.scores, sum(result.scores for result in results) / 3)
    probability = sum(result.mask_logits.sigmoid() for result in results) / 3
    torch.testing.assert_close(found.mask_logits.sigmoid(), probability)
    assert (found.mask_logits - sum(result.mask_logits for result in results) / 3).abs().max() > 1e-3


def test_the_assignment_has_the_least_cost_of_equation_4() -> None:
    generator = torch.Generator().manual_seed(1)
    results = [
        QueryPredictions(torch.rand(4, 3, generator=generator), torch.randn(4, 2, 3, 5, generator=generator))
        for _ in range(2)
    ]
    pivot, other = results
    labels, masks = pivot.scores.argmax(-1), (pivot.mask_logits.flatten(1) > 0).float()
    cost = MaskCostConfig().combine(other.scores, labels, other.mask_logits.flatten(1), masks)
    best = min(sum(cost[q, n].item() for n, q in enumerate(order)) for order in itertools.permutations(range(4)))
    row = match_to_pivot(results, 0)[1]
    assert sum(cost[q, n].item() for n, q in enumerate(row.tolist())) == pytest.approx(best)


def test_weights_of_the_cost_decide() -> None:
    """A result in which class and mask point to different queries."""
    truth = objects(queries=2)
    crossed = QueryPredictions(truth.scores.flip(0), truth.mask_logits)
    assert match_to_pivot([truth, crossed], 0, MaskCostConfig(class_cost=0.0))[1].tolist() == [0, 1]
    by_class = MaskCostConfig(mask_cost=0.0, dice_cost=0.0)
    assert match_to_pivot([truth, crossed], 0, by_class)[1].tolist() == [1, 0]


def test_chosen_queries_need_no_other_masks() -> None:
    """Scores of all, masks of the chosen ones at another size: the parts of `average_predictions`, used one by one."""
    results = [shuffled(objects(seed=seed, noise=0.1), order) for seed, order in enumerate(ORDERS)]
    queries, whole = match_to_pivot(results, 2), average_predictions(results, 2)
    chosen = torch.tensor([3, 1])
    scores = average_scores([result.scores for result in results], queries[:, chosen])
    masks = average_masks([result.mask_logits[row[chosen]] for result, row in zip(results, queries, strict=True)])
    torch.testing.assert_close(scores, whole.scores[chosen])
    torch.testing.assert_close(masks, whole.mask_logits[chosen])


def test_a_single_result_stays_as_it_is_and_saturated_masks_stay_finite() -> None:
    truth = objects()
    found = average_predictions([truth], pivot=0)
    assert torch.equal(found.scores, truth.scores)
    torch.testing.assert_close(found.mask_logits, truth.mask_logits, atol=1e-4, rtol=1e-4)
    extreme = QueryPredictions(truth.scores, 1e4 * truth.mask_logits)
    assert average_predictions([extreme, extreme], 1).mask_logits.isfinite().all()


def test_the_pivot_is_random_and_repeatable() -> None:
    draw = lambda seed: [random_pivot(4, generator) for generator in [torch.Generator().manual_seed(seed)] * 40]  # noqa: E731
    assert set(draw(0)) == {0, 1, 2, 3} and draw(0) == draw(0) != draw(1)
