from __future__ import annotations

import contextlib
import threading

import pytest

from vislab.engine.loading import prefetched


def test_results_come_in_order_from_one_other_thread() -> None:
    threads = set()

    def load(number: int) -> int:
        threads.add(threading.get_ident())
        return number * number

    assert list(prefetched(load, range(7))) == [n * n for n in range(7)]
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_no_arguments_give_no_results() -> None:
    assert list(prefetched(str, [])) == []


def test_the_next_one_is_made_while_the_current_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def load(number: int) -> int:
        made[number].set()
        return number

    with contextlib.closing(prefetched(load, range(3))) as results:
        assert next(results) == 0
        assert made[1].wait(10) and not made[2].is_set()


def test_an_error_is_raised_at_its_place() -> None:
    def load(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    results = prefetched(load, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_closing_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = prefetched(str, range(1000))
    next(results)
    results.close()
    assert threading.active_count() == before
