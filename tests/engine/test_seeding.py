from __future__ import annotations

import itertools

import torch

from vislab.engine.seeding import derived_seed, deterministic_algorithms, seed_torch


def test_seeds_differ_for_every_seed_purpose_and_step() -> None:
    seeds = [derived_seed(*key) for key in itertools.product(range(5), ["step", "init"], range(50))]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_never_changes_between_versions() -> None:
    assert derived_seed(3, "step", 7) == 2425875697295671303


def test_equal_seeds_give_equal_numbers() -> None:
    seed_torch(1, "step", 2)
    first = torch.rand(5)
    torch.rand(100)
    seed_torch(1, "step", 2)
    assert torch.equal(first, torch.rand(5))
    seed_torch(1, "step", 3)
    assert not torch.equal(first, torch.rand(5))


def test_deterministic_mode_is_left_as_it_was_found() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with deterministic_algorithms(True):
        assert torch.are_deterministic_algorithms_enabled()
        with deterministic_algorithms(False):
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == before


def test_scattered_sums_repeat_with_threads_in_deterministic_mode() -> None:
    index = torch.randint(0, 50, (200_000,))
    values = torch.randn(200_000)
    with deterministic_algorithms(True):
        sums = [torch.zeros(50).index_put_((index,), values, accumulate=True) for _ in range(3)]
    assert torch.equal(sums[0], sums[1]) and torch.equal(sums[0], sums[2])
