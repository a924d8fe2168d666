"""What AP needs to remember of one evaluation, and its statistics for any resampling of the videos.

Matching a detection to a ground truth involves one video only. So the result of matching is kept, per detection, and a
bootstrap replicate is a vector of video multiplicities over it: nothing is matched twice.

Shape letters: V videos, K categories, N detections, G ground truths, A ranges, I IoU thresholds, R replicates,
E entries of one category's ranked list. The ranges are the four of the area, or one subset of the ground
truth; the thresholds are all ten, or one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from typing import BinaryIO

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 128.0**2), "medium": (128.0**2, 256.0**2), "large": (256.0**2, 1e10)}
MAX_DETECTIONS = (1, 10, 100)
_MAX_ENTRIES = 2_000_000  # of a (replicates, detections) array: 16 MB

# name -> (precision or recall, area range, detections per video and category, index of the IoU threshold or all)
_STATISTICS: dict[str, tuple[str, str, int, slice]] = {
    "AP": ("precision", "all", 100, slice(None)),
    "AP50": ("precision", "all", 100, slice(0, 1)),
    "AP75": ("precision", "all", 100, slice(5, 6)),
    "APs": ("precision", "small", 100, slice(None)),
    "APm": ("precision", "medium", 100, slice(None)),
    "APl": ("precision", "large", 100, slice(None)),
    "AR1": ("recall", "all", 1, slice(None)),
    "AR10": ("recall", "all", 10, slice(None)),
    "AR100": ("recall", "all", 100, slice(None)),
    "ARs": ("recall", "small", 100, slice(None)),
    "ARm": ("recall", "medium", 100, slice(None)),
    "ARl": ("recall", "large", 100, slice(None)),
}
STATISTICS = tuple(_STATISTICS)


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of a results file, each marked as the published evaluator would mark it.

    Detections are in the order in which that evaluator ranks them: falling score, ties by video id, then as in the
    results. Detections past the 100th of a video and category are not kept.
    """

    video_ids: np.ndarray  # (V,) int64, rising
    category_ids: np.ndarray  # (K,) int64, rising
    category_names: np.ndarray  # (K,) str
    detection_video: np.ndarray  # (N,) int32, index into video_ids
    detection_category: np.ndarray  # (N,) int32, index into category_ids
    detection_score: np.ndarray  # (N,) float64
    detection_area: np.ndarray  # (N,) float64, mean over the frames that have a mask, pixels
    detection_rank: np.ndarray  # (N,) int32, 0 for the best of its video and category
    matched: np.ndarray  # (A, I, N) bool
    ignored: np.ndarray  # (A, I, N) bool: counts neither as right nor as wrong
    truth_video: np.ndarray  # (G,) int32
    truth_category: np.ndarray  # (G,) int32
    truth_ignored: np.ndarray  # (A, G) bool: crowd, or outside the range

    @property
    def statistics(self) -> tuple[str, ...]:
        """What can be had: no statistics by area for one subset, no AP50 and AP75 for one threshold."""
        num_ranges, num_thresholds = self.matched.shape[:2]
        whole = num_thresholds == len(IOU_THRESHOLDS)
        return tuple(
            name for name in STATISTICS if _range(name) < num_ranges and (whole or _STATISTICS[name][3] == slice(None))
        )

    def summary(self, video_weights: np.ndarray | None = None) -> dict[str, float]:
        """The `statistics`, as fractions; NaN where no category has ground truth.

        Args:
            video_weights: (V,) non-negative integers, how often each video counts (default: once). The result is that
                of a data set in which every video is replaced by so many copies with ids in a row.
        """
        weights = None if video_weights is None else np.asarray(video_weights)[None]
        return {name: float(values[0]) for name, values in self.summaries(weights).items()}

    def summaries(
        self, video_weights: np.ndarray | None = None, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The named statistics of R resamples at once: name -> (R,) float64.

        Args:
            video_weights: (R, V) non-negative integers (default: one row of ones).
            names: default: all `statistics`.
        """
        return {name: mean_defined(table) for name, table in self.category_summaries(video_weights, names).items()}

    def category_summaries(
        self, video_weights: np.ndarray | None = None, names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The named statistics of each category: name -> (R, K) float64, NaN for a category without ground truth."""
        weights = np.ones((1, len(self.video_ids)), np.int64) if video_weights is None else np.asarray(video_weights)
        assert weights.ndim == 2 and weights.shape[1] == len(self.video_ids), weights.shape
        assert np.issubdtype(weights.dtype, np.integer) and (weights >= 0).all(), "multiplicities are whole numbers"
        names = self.statistics if names is None else names
        assert set(names) <= set(self.statistics), names
        tables: dict[tuple[str, str, int], np.ndarray] = {}
        for name in names:
            kind, area, limit, _ = _STATISTICS[name]
            if (kind, area, limit) not in tables:
                tables[kind, area, limit] = self._table(kind, _range(name), limit, weights)
        return {name: tables[_STATISTICS[name][:3]][:, :, _STATISTICS[name][3]].mean(2) for name in names}

    def _table(self, kind: str, area: int, limit: int, weights: np.ndarray) -> np.ndarray:
        """Average precision or final recall: (R, K, I), NaN for categories without ground truth."""
        table = np.full((len(weights), len(self.category_ids), self.matched.shape[1]), np.nan)
        for category in range(len(self.category_ids)):
            truths = ~self.truth_ignored[area] & (self.truth_category == category)
            chosen = np.flatnonzero((self.detection_category == category) & (self.detection_rank < limit))
            counted = ~self.ignored[area][:, chosen]
            hit = self.matched[area][:, chosen] & counted
            for part in _slices(len(weights), len(chosen)):
                truth_count = weights[part][:, self.truth_video[truths]].sum(1)
                if kind == "recall":
                    multiplicity = weights[part][:, self.detection_video[chosen]].astype(np.float64)
                    value = multiplicity @ hit.T / np.maximum(truth_count, 1)[:, None]
                else:
                    order, multiplicity = self._ranking(chosen, weights[part])
                    value = _average_precision(multiplicity, counted[:, order], hit[:, order], truth_count)
                table[part, category] = np.where(truth_count[:, None] > 0, value, np.nan)
        return table

    def _ranking(self, chosen: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ranked list of one category in R resamples.

        Returns:
            order (E,), index into `chosen`, and multiplicity (R, E) of each entry. A detection with multiplicity w
            stands for w neighbours in the list. Only among equal scores in one video does the order of copies matter:
            copies of a video are videos of their own, ranked a b a' b', so these have one entry per copy.
        """
        video, score = self.detection_video[chosen], self.detection_score[chosen]
        multiplicity = weights[:, video]
        same = (video[1:] == video[:-1]) & (score[1:] == score[:-1])
        if not same.any() or weights.max(initial=0) <= 1:
            return np.arange(len(chosen)), multiplicity
        tied = np.append(same, False) | np.append(False, same)
        copies = np.where(tied, weights.max(0)[video], 1)
        order = np.repeat(np.arange(len(chosen)), copies)
        copy = np.arange(len(order)) - np.repeat(np.cumsum(copies) - copies, copies)
        block = np.cumsum(np.append(True, ~same))
        by_copy = np.lexsort((order, copy, block[order]))
        order, copy = order[by_copy], copy[by_copy]
        return order, np.where(tied[order], multiplicity[:, order] > copy, multiplicity[:, order])

    def save(self, file: str | PathLike | BinaryIO) -> None:
        """Write as .npz to a path or an open binary file."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(file, (str, PathLike)):
            with open(file, "wb") as opened:  # np.savez would append .npz to a temporary name
                np.savez_compressed(opened, allow_pickle=False, **arrays)
        else:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, file: str | PathLike | BinaryIO) -> Matches:
        """Read what `save` wrote; never unpickles."""
        with np.load(file, allow_pickle=False) as stored:
            return cls(**{field.name: stored[field.name] for field in fields(cls)})


def counted_videos(matches: Matches, name: str, category: int | None = None) -> int:
    """Videos with ground truth (of one category) that counts for the named statistic."""
    counted = ~matches.truth_ignored[_range(name)]
    if category is not None:
        counted &= matches.truth_category == category
    return len(np.unique(matches.truth_video[counted]))


def _range(name: str) -> int:
    """Row of the range that the named statistic looks at."""
    return list(AREA_RANGES).index(_STATISTICS[name][1])


def _average_precision(
    multiplicity: np.ndarray, counted: np.ndarray, hit: np.ndarray, truth_count: np.ndarray
) -> np.ndarray:
    """Interpolated precision averaged over the 101 recall points (ytvoseval.py: accumulate).

    Every recall point takes the greatest precision at or past the first entry that reaches it. That entry is a hit (or
    the very first, whose interpolated precision is that of the first hit), so hits are all that need looking at.

    Args:
        multiplicity: (R, E) integers; counted, hit: (I, E) bool; truth_count: (R,) integers.

    Returns:
        (R, I) float64; 0 where truth_count is 0.
    """
    result = np.zeros((len(multiplicity), len(hit)))
    truth_count = np.maximum(truth_count, 1)[:, None]
    everything = np.cumsum(multiplicity, 1) if counted.all(1).any() else None
    for i, columns in enumerate(np.flatnonzero(row) for row in hit):
        ranked = everything if counted[i].all() else np.cumsum(multiplicity * counted[i], 1)
        assert ranked is not None
        hits = np.cumsum(multiplicity[:, columns], 1)
        precision = hits / (ranked[:, columns] + np.spacing(1))  # as published: 1 - 2e-16 where all are right
        interpolated = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        reached = np.searchsorted(RECALL_POINTS, hits / truth_count, side="right")
        newly = np.diff(reached, axis=1, prepend=0)
        result[:, i] = (newly * interpolated).sum(1) / len(RECALL_POINTS)
    return result


def _slices(replicates: int, entries: int) -> Iterator[slice]:
    """Cut the replicates so that one array of (replicates, entries) stays small."""
    step = max(1, _MAX_ENTRIES // max(entries, 1))
    return (slice(start, start + step) for start in range(0, replicates, step))


def mean_defined(table: np.ndarray) -> np.ndarray:
    """Mean of each row over its entries that are not NaN: (R, K) -> (R,), NaN for a row without any."""
    defined = ~np.isnan(table)
    return np.divide(
        np.where(defined, table, 0.0).sum(1), defined.sum(1), out=np.full(len(table), np.nan), where=defined.any(1)
    )
