"""Divisions by video name: fixed for ever, disjoint, complete."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vislab.data.splits import default_division, divide, division_named, names_hash
from vislab.errors import UserError

NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=40, unique=True)


@given(NAMES, st.sampled_from(["halves", "ninety-ten"]), st.randoms())
@settings(max_examples=50, deadline=None)
def test_parts_are_disjoint_complete_and_independent_of_order(
    names: list[str], division: str, shuffler: random.Random
) -> None:
    train, valid = divide(names, division)
    assert sorted(train + valid) == sorted(names)
    shuffled = list(names)
    shuffler.shuffle(shuffled)
    assert divide(shuffled + names[:2], division) == (train, valid)
    assert names_hash(shuffled) == names_hash(names)


@pytest.mark.parametrize(
    ("count", "halves", "ninety_ten"),
    [(1, (1, 0), (0, 1)), (2, (1, 1), (1, 1)), (7, (4, 3), (6, 1)), (100, (50, 50), (90, 10))],
)
def test_sizes_of_the_parts(count: int, halves: tuple[int, int], ninety_ten: tuple[int, int]) -> None:
    names = [f"v{i}" for i in range(count)]
    assert tuple(map(len, divide(names, "halves"))) == halves
    assert tuple(map(len, divide(names, "ninety-ten"))) == ninety_ten
    assert divide(names, "whole").train == divide(names, "whole").valid


def test_the_order_is_that_of_the_sha256_of_the_names() -> None:
    names = [f"{i:010x}" for i in range(50)]
    train, valid = divide(names, "halves")
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in train + valid]
    assert digests == sorted(digests)
    assert divide(["bear", "bus", "libby", "rhino"], "halves") == (
        ("bus", "rhino"),
        ("libby", "bear"),
    )  # never to change


def test_names_and_defaults() -> None:
    assert default_division(199) == "halves" and default_division(200) == "ninety-ten"
    assert division_named("whole") == "whole"
    with pytest.raises(UserError, match="division 'thirds' does not exist; expected one of halves, ninety-ten, whole"):
        division_named("thirds")
    assert names_hash(["a", "b"]) != names_hash(["a", "c"])
