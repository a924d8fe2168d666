"""A batch whose clips are spread over several processes: what the losses of one part must know of the others.

Losses are sums over the whole batch divided by counts over the whole batch, and random numbers are drawn for the whole
of it; so neither depends on how many processes share it. In a process that has the batch for itself, every function
here is what plain torch does.

All parts call the same functions in the same order: each call is a meeting of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


def _alone(number: float) -> list[float]:
    return [number]


@dataclass(frozen=True)
class Share:
    """The part of a batch that this process has.

    part: which one, in the order of the clips. gather: a number to that of every part, in order. generator: draws for
    the whole batch, at the same state in all parts; None: torch's own, on the CPU.
    """

    part: int = 0
    gather: Callable[[float], list[float]] = _alone
    generator: torch.Generator | None = None


_current = Share()


@contextlib.contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Within the block, forward passes and losses are of this share of a batch."""
    global _current
    before, _current = _current, share
    try:
        yield
    finally:
        _current = before


def normaliser(count: float) -> float:
    """What a part divides its sums by, given its own count, so that the mean over the parts is the whole batch's sum
    divided by its count; at least 1 for the whole batch."""
    counts = _current.gather(float(count))
    return max(1.0, sum(counts)) / len(counts)


def part_weight(weight: float) -> float:
    """Factor for a mean over a part, of this total weight: the mean over the parts is then that over the batch."""
    weights = _current.gather(float(weight))
    return weight * len(weights) / sum(weights)


def largest(number: int) -> int:
    """Over all parts."""
    return int(max(_current.gather(float(number))))


def total_before(count: int) -> int:
    """Sum of the counts of the parts before this one."""
    return int(sum(_current.gather(float(count))[: _current.part]))


def draw_rows(draw: Callable[[int, torch.Generator | None], Tensor], count: int) -> Tensor:
    """`count` rows of random numbers. draw: (rows, generator) to a tensor of so many rows, for the whole batch, of
    which this part takes its own."""
    counts = _current.gather(float(count))
    before = int(sum(counts[: _current.part]))
    return draw(int(sum(counts)), _current.generator)[before : before + count]


def new_seeds(count: int) -> list[int]:
    """Seeds of this part's own: a seeded training step gives the same again."""
    return draw_rows(lambda rows, generator: torch.randint(2**62, (rows,), generator=generator), count).tolist()


def common_seed() -> int:
    """A seed that all parts share."""
    return int(torch.randint(2**62, (1,), generator=_current.generator))
