"""Assignment against all permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vislab.stitching.assignment import assign, assign_within


def best_total(cost: np.ndarray, max_cost: float | None) -> tuple[int, float]:
    """Number of pairs and total of the best set of pairs, over all sets; without a bound they are as many as can be."""
    rows, columns = cost.shape
    best = (0, 0.0)
    for size in range(1, min(rows, columns) + 1):
        for some in itertools.combinations(range(rows), size):
            for others in itertools.permutations(range(columns), size):
                total = sum(cost[i, j] - (max_cost or 0.0) for i, j in zip(some, others, strict=True))
                best = min(best, (-size if max_cost is None else 0, total))
    return best


@pytest.mark.parametrize("max_cost", [None, 0.0, -0.5, 5.0])
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (2, 5), (5, 3)])
def test_equals_all_permutations(shape: tuple[int, int], max_cost: float | None) -> None:
    for seed in range(10):
        cost = np.random.default_rng(seed).normal(size=shape)
        pairs = assign(cost, max_cost)
        rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
        assert len(set(rows)) == len(rows) == len(set(columns)) and list(rows) == sorted(rows)
        total = sum(cost[pair] - (max_cost or 0.0) for pair in pairs)
        assert (0 if max_cost is not None else -len(pairs), pytest.approx(total)) == best_total(cost, max_cost)
        assert max_cost is None or all(cost[pair] < max_cost for pair in pairs)


def test_labels_keep_to_themselves() -> None:
    cost = np.array([[0.0, -9.0, 0.5], [-9.0, 0.0, -1.0]])
    assert assign_within(cost, np.array([0, 1]), np.array([0, 1, 0])) == [(0, 0), (1, 1)]
    assert assign_within(cost, np.array([0, 0]), np.array([0, 1, 0])) == [(0, 2), (1, 0)]
    assert assign_within(cost, np.array([0, 0]), np.array([1, 1, 1])) == []
    assert assign_within(cost, np.array([0, 0]), np.array([0, 1, 0]), max_cost=0.0) == [(1, 0)]
