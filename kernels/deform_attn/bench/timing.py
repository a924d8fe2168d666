"""Rounds in which all competitors take turns, so that a drift of the machine's speed meets all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

Call = Callable[[], object]
# Takes a call, makes it and says how many seconds it took.
Clock = Callable[[Call], float]


@dataclass(frozen=True)
class Entrant:
    """One competitor ready to run; `context` is entered around its calls, outside the time."""

    call: Call
    context: Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class Schedule:
    """How often everybody runs. Who would take more than `budget` seconds in all takes part in fewer rounds."""

    rounds: int = 9
    warmups: int = 2
    budget: float = 40.0
    fewest: int = 3

    def rounds_for(self, seconds: float) -> int:
        """Rounds of a competitor that takes so many seconds a call."""
        affordable = int(self.budget / max(seconds, 1e-9))
        return min(self.rounds, max(self.fewest, affordable))


def cpu_clock(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda_clock(call: Call) -> float:
    """Time on the device between two events, with cold caches and without the host's launch overhead.

    A first call says how long the host needs to enqueue one; the device then waits that long before the second, timed
    one, so that all its kernels are in the queue by the time they run. What the level-2 cache holds is overwritten.
    """
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    host = time.perf_counter() - started
    torch.empty(2**28, dtype=torch.int8, device="cuda").zero_()
    torch.cuda._sleep(int((1.5 * host + 1e-4) * 2e9))  # cycles; no clock runs faster than 2 GHz for long
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def take_turns(
    entrants: Mapping[str, Entrant], clock: Clock, schedule: Schedule, on_call: Callable[[str], object]
) -> dict[str, list[float]]:
    """Seconds of every round by competitor; round r is element r of every list, lists of slow ones are shorter."""
    rounds = {}
    for name, entrant in entrants.items():
        on_call(name)
        # The first call may compile something.
        rounds[name] = schedule.rounds_for(min(_timed(entrant, clock) for _ in range(schedule.warmups)))
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    order = list(entrants)
    for turn in range(schedule.rounds):
        for name in order:
            if turn < rounds[name]:
                on_call(name)
                seconds[name].append(_timed(entrants[name], clock))
        order.append(order.pop(0))  # nobody has always the same predecessor's caches
    return seconds


def _timed(entrant: Entrant, clock: Clock) -> float:
    with entrant.context():
        gc.collect(0)
        enabled = gc.isenabled()
        gc.disable()
        try:
            return clock(entrant.call)
        finally:
            if enabled:
                gc.enable()


def fastest(seconds: Mapping[str, Sequence[float]], among: Sequence[str]) -> str:
    """The name with the smallest median."""
    return min(among, key=lambda name: statistics.median(seconds[name]))


def speed_up(reference: Sequence[float], seconds: Sequence[float]) -> float:
    """How many times as fast: the median over rounds of the quotient within each round that both took part in."""
    return statistics.median(theirs / ours for theirs, ours in zip(reference, seconds, strict=False))
