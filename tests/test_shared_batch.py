"""Parts of a batch: together they are the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch

from vislab.shared_batch import (
    Share,
    common_seed,
    draw_rows,
    largest,
    new_seeds,
    normaliser,
    part_weight,
    sharing,
    total_before,
)

T = TypeVar("T")


def in_parts(counts: list[float], work: Callable[[int], T]) -> list[T]:
    """`work` of each part, all of which say `counts` at every meeting."""
    found = []
    for part in range(len(counts)):
        with sharing(Share(part, lambda number: list(counts), torch.Generator().manual_seed(3))):
            found.append(work(part))
    return found


def test_sums_over_counts() -> None:
    counts, sums = [3.0, 0.0, 2.0], [7.0, 1.0, 2.0]
    parts = in_parts(counts, lambda part: sums[part] / normaliser(counts[part]))
    assert sum(parts) / 3 == pytest.approx(10 / 5)
    assert in_parts([0.0, 0.0], lambda part: normaliser(0)) == [0.5, 0.5], "1 for the whole batch"
    assert normaliser(4) == 4 and normaliser(0) == 1


def test_weighted_means() -> None:
    values, weights = torch.arange(5.0), torch.tensor([1.0, 0.1, 1, 0.1, 0.1])
    own = [slice(0, 2), slice(2, 5)]

    def mean(part: int) -> float:
        value, weight = values[own[part]], weights[own[part]]
        return float((value * weight).sum() / weight.sum() * part_weight(float(weight.sum())))

    parts = in_parts([float(weights[place].sum()) for place in own], mean)
    assert sum(parts) / 2 == pytest.approx(float((values * weights).sum() / weights.sum()))
    assert part_weight(0.3) == 1


def test_what_the_parts_draw_is_what_the_whole_draws() -> None:
    torch.manual_seed(3)
    whole = common_seed(), new_seeds(5), draw_rows(lambda rows, g: torch.rand(rows, 2, generator=g), 5)
    counts = [2.0, 0.0, 3.0]

    def draw(part: int) -> tuple[int, list[int], torch.Tensor]:
        own = int(counts[part])
        return common_seed(), new_seeds(own), draw_rows(lambda rows, g: torch.rand(rows, 2, generator=g), own)

    parts = in_parts(counts, draw)
    assert [seed for seed, _, _ in parts] == [whole[0]] * 3
    assert [seed for _, seeds, _ in parts for seed in seeds] == whole[1]
    assert torch.equal(torch.cat([rows for _, _, rows in parts]), whole[2])


def test_places() -> None:
    assert in_parts([2.0, 0.0, 3.0], lambda part: total_before(0)) == [0, 2, 2]
    assert in_parts([2.0, 5.0], lambda part: largest(2)) == [5, 5]
    assert total_before(3) == 0 and largest(3) == 3


def test_an_error_ends_the_sharing() -> None:
    with pytest.raises(RuntimeError), sharing(Share(0, lambda number: [number, 9.0])):
        assert normaliser(1) == 5
        raise RuntimeError
    assert normaliser(1) == 1
