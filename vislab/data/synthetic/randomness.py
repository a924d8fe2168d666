"""Random numbers that depend on their name only: counter-based (Philox), the same on every platform and numpy version.

Only the raw bits of Philox are used: numpy guarantees those for ever (NEP 19), the methods of its Generator it does
not.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np


class Stream:
    """Uniform draws from the stream with this name, e.g. Stream(seed, "valid", 17, "colours")."""

    def __init__(self, *name: object) -> None:
        digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """One float in [low, high), 53 random bits."""
        return low + (high - low) * ((self._bits.random_raw() >> 11) * 2.0**-53)

    def numbers(self, low: float, high: float, *size: int) -> np.ndarray:
        """float64 of shape `size` in [low, high)."""
        raw = self._bits.random_raw(math.prod(size))
        return low + (high - low) * ((raw >> np.uint64(11)) * 2.0**-53).reshape(size)

    def integer(self, count: int) -> int:
        """One integer in 0..count-1."""
        return int(self.number() * count)

    def integers(self, count: int, *size: int) -> np.ndarray:
        """int64 of shape `size` in 0..count-1."""
        return np.floor(self.numbers(0, count, *size)).astype(np.int64)

    def order(self, count: int) -> np.ndarray:
        """A permutation of 0..count-1, (count,) int64."""
        return np.argsort(self.numbers(0, 1, count), kind="stable")

    def weighted(self, weights: tuple[float, ...]) -> int:
        """Position drawn in proportion to the weights."""
        target = self.number() * sum(weights)
        for position, weight in enumerate(weights):
            target -= weight
            if target < 0:
                return position
        return len(weights) - 1

    def bytes(self, *size: int) -> np.ndarray:
        """uint8 of shape `size`, uniform in 0..255."""
        count = math.prod(size)
        words = np.asarray(self._bits.random_raw((count + 7) // 8)).astype("<u8")
        return words.view(np.uint8)[:count].reshape(size)


def quantised(values: np.ndarray, step: int) -> np.ndarray:
    """Rounds to multiples of 1/step, so that the last bit of a platform's sin or exp2 cannot matter."""
    return np.round(values * step) / step
