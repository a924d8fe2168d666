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
_AREAS = ("all", "small", "medium", "large")
MAX_DETECTIONS = (1, 10, 100)
_MAX_ENTRIES = 2_000_000  # of a (replicates, thresholds, detections) array: 16 MB

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
        wanted = dict.fromkeys(_STATISTICS[name][:3] for name in names)
        shape = (len(weights), len(self.category_ids), self.matched.shape[1])
        tables = {key: np.full(shape, np.nan) for key in wanted}
        for category in range(len(self.category_ids)):
            found = np.flatnonzero(self.detection_category == category)
            truths = np.flatnonzero(self.truth_category == category)
            for area in dict.fromkeys(area for _, area, _ in wanted):
                row = _AREAS.index(area)
                counted = truths[~self.truth_ignored[row, truths]]
                if len(counted):
                    own = [key for key in wanted if key[1] == area]
                    for key, values in self._curves(own, row, found, self.truth_video[counted], weights):
                        tables[key][:, category] = values
        return {name: tables[_STATISTICS[name][:3]][:, :, _STATISTICS[name][3]].mean(2) for name in names}

    def _curves(
        self,
        wanted: Sequence[tuple[str, str, int]],
        row: int,
        found: np.ndarray,
        counted: np.ndarray,
        weights: np.ndarray,
    ) -> Iterator[tuple[tuple[str, str, int], np.ndarray]]:
        """Average precision or final recall of one category, (R, I), NaN where no drawn video has ground truth.

        Args:
            wanted: keys of such tables. row: of the range. found: (E,) detections of the category, ranked. counted:
                videos of the objects that count.
        """
        truth_count = weights[:, counted].sum(1)
        is_counted = ~self.ignored[row][:, found]
        is_hit = self.matched[row][:, found] & is_counted
        rank = self.detection_rank[found]
        known: dict[tuple[str, int], np.ndarray] = {}
        for kind, area, limit in wanted:
            within = np.flatnonzero(rank < limit)
            if (kind, len(within)) not in known:  # where no video has more than 10 detections, AR100 is AR10
                values = np.empty((len(weights), len(is_hit)))
                for part in _slices(len(weights), is_hit[:, within].size):
                    if kind == "recall":
                        values[part] = self._recall(found[within], is_hit[:, within], weights[part], truth_count[part])
                        continue
                    order, multiplicity = self._ranking(found[within], weights[part])
                    columns = within[order]
                    values[part] = _average_precision(
                        multiplicity, is_counted[:, columns], is_hit[:, columns], truth_count[part]
                    )
                known[kind, len(within)] = np.where(truth_count[:, None] > 0, values, np.nan)
            yield (kind, area, limit), known[kind, len(within)]

    def _recall(self, chosen: np.ndarray, hit: np.ndarray, weights: np.ndarray, truth_count: np.ndarray) -> np.ndarray:
        """(R, I); hit: (I, E) of the chosen detections, (E,)."""
        multiplicity = weights[:, self.detection_video[chosen]].astype(np.float64)
        return multiplicity @ hit.T / np.maximum(truth_count, 1)[:, None]

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
    return _AREAS.index(_STATISTICS[name][1])


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
    thresholds, columns = np.nonzero(hit)  # H hits, threshold by threshold
    with_hits, starts = np.unique(thresholds, return_index=True)
    if not len(starts):
        return result
    ends = [*starts[1:].tolist(), len(columns)]
    if counted.all():
        ranked = np.cumsum(multiplicity, 1)[:, columns]
    else:
        ranked = np.cumsum(multiplicity[:, None] * counted, 2)[:, thresholds, columns]
    hits, precision = (np.empty((len(multiplicity), len(columns)), kind) for kind in (np.int64, np.float64))
    for start, end in zip(starts.tolist(), ends, strict=True):
        np.cumsum(multiplicity[:, columns[start:end]], 1, out=hits[:, start:end])
    np.divide(hits, ranked + np.spacing(1), out=precision)  # as published: 1 - 2e-16 where all are right
    for start, end in zip(starts.tolist(), ends, strict=True):
        backwards = precision[:, start:end][:, ::-1]
        np.maximum.accumulate(backwards, 1, out=backwards)
    reached = np.searchsorted(RECALL_POINTS, hits / np.maximum(truth_count, 1)[:, None], side="right")
    newly = np.diff(reached, axis=1, prepend=0)
    newly[:, starts] = reached[:, starts]
    result[:, with_hits] = np.add.reduceat(newly * precision, starts, axis=1) / len(RECALL_POINTS)
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
