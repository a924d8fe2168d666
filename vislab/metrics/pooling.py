"""Counts of each video that add up to those of any resample of the videos, and from there to statistics.

Shape letters: V videos, R resamples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, eq=False)
class VideoCounts(ABC):
    """A subclass adds its counts as fields, (V,) or (V, ...), and says what statistics they give."""

    video_ids: np.ndarray  # (V,) int64, rising

    @staticmethod
    @abstractmethod
    def statistics(counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """From the counts of R data sets, by field, each (R,) or (R, ...): name -> (R,) float64."""

    def summaries(
        self, video_weights: np.ndarray | None = None, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Statistics of the pooled counts in R resamples: name -> (R,) float64.

        Args:
            video_weights: (R, V) non-negative integers, how often each video counts (default: one row of ones).
            names: of the statistics wanted (default: all).
        """
        weights = np.ones((1, len(self.video_ids)), np.int64) if video_weights is None else video_weights
        values = self.statistics({name: weights @ counts for name, counts in self._counts().items()})
        return values if names is None else {name: values[name] for name in names}

    def per_video(self) -> dict[str, np.ndarray]:
        """The same statistics of each video alone: name -> (V,) float64."""
        return self.statistics(self._counts())

    def _counts(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name) for field in fields(self)[1:]}
