"""One-to-one assignment of new instances to tracks.

Shape letters: N tracks, M detections.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def assign(cost: np.ndarray, max_cost: float | None = None) -> list[tuple[int, int]]:
    """Pairs (track, detection) of least total cost, by ascending track; cost: (N, M) finite float64.

    max_cost: pairs must cost less, and not being paired costs as much as a pair of this cost. None: min(N, M) pairs.
    """
    if max_cost is not None:
        # A pair at the bound is as good as none: a complete assignment of bounded costs has the best partial one in it.
        rows, columns = linear_sum_assignment(np.minimum(cost, max_cost))
        kept = cost[rows, columns] < max_cost
        rows, columns = rows[kept], columns[kept]
    else:
        rows, columns = linear_sum_assignment(cost)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def assign_within(
    cost: np.ndarray, row_labels: np.ndarray, column_labels: np.ndarray, max_cost: float | None = None
) -> list[tuple[int, int]]:
    """`assign` for each label by itself; row_labels: (N,), column_labels: (M,)."""
    pairs: list[tuple[int, int]] = []
    for label in np.intersect1d(row_labels, column_labels):
        rows, columns = np.flatnonzero(row_labels == label), np.flatnonzero(column_labels == label)
        pairs += [(int(rows[i]), int(columns[j])) for i, j in assign(cost[np.ix_(rows, columns)], max_cost)]
    return sorted(pairs)
