"""What AP is the area of: precision against recall, and AP against the IoU threshold.

Shape letters: K categories, I IoU thresholds, E entries of one category's ranked list, R resamples, V videos.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vislab.metrics.matches import RECALL_POINTS, Matches, mean_defined


def precision_recall(matches: Matches) -> np.ndarray:
    """Interpolated precision at the 101 RECALL_POINTS, mean over the categories with ground truth: (I, 101) float64.

    Its mean over the recall points is the AP of `Matches.summary` at the threshold, for the first of the ranges (all
    areas). 0 where the recall is not reached; NaN without ground truth.
    """
    curves = np.full((len(matches.category_ids), matches.matched.shape[1], len(RECALL_POINTS)), np.nan)
    for category in range(len(matches.category_ids)):
        num_truths = int((~matches.truth_ignored[0] & (matches.truth_category == category)).sum())
        chosen = matches.detection_category == category
        if num_truths:
            curves[category] = _category_curve(matches.matched[0][:, chosen], matches.ignored[0][:, chosen], num_truths)
    columns = np.moveaxis(curves, 0, 2)
    return np.stack([mean_defined(threshold) for threshold in columns])


def ap_by_threshold(matches: Matches, video_weights: np.ndarray | None = None) -> np.ndarray:
    """AP at each IoU threshold: (R, I) float64.

    Args:
        video_weights: (R, V) non-negative integers, how often each video counts (default: one row of ones).
    """
    columns = []
    for threshold in range(matches.matched.shape[1]):
        only = slice(threshold, threshold + 1)
        part = replace(
            matches,
            matched=matches.matched[:1, only],
            ignored=matches.ignored[:1, only],
            truth_ignored=matches.truth_ignored[:1],
        )
        columns.append(part.summaries(video_weights, ["AP"])["AP"])
    return np.stack(columns, 1)


def _category_curve(matched: np.ndarray, ignored: np.ndarray, num_truths: int) -> np.ndarray:
    """(I, E) bool, in the order of the ranking, to (I, 101)."""
    right, wrong = np.cumsum(matched & ~ignored, 1), np.cumsum(~matched & ~ignored, 1)
    precision = right / np.maximum(right + wrong, 1)
    best_from_here = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    best_from_here = np.append(best_from_here, np.zeros((len(matched), 1)), 1)  # past the end
    first = np.array([np.searchsorted(row / num_truths, RECALL_POINTS) for row in right]).reshape(len(matched), -1)
    return np.take_along_axis(best_from_here, first, 1)
