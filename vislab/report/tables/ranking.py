"""Which rows of a table are best and second, where the data say so.

The best row of a metric is the one that is better than every other row measured on the same data, each by a paired
difference whose 95 % interval leaves out zero; the second is better than every other row but that one. Where a single
comparison is open, so is the place: no row has it. As the best row must win all of its comparisons, their number needs
no correction (intersection-union test; Berger, Technometrics 24, 1982): a row takes the place of a better one no more
often than it would come out ahead of that one alone. What limits those intervals limits this (`metrics.statistics`).

Rows that are one run are one row here, and have their place together. A comparison over fewer than two common seeds is
open: it would say nothing of another training run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vislab.metrics.numbers import less_is_better
from vislab.metrics.statistics import paired_difference
from vislab.report.tables.frames import Evidence, cell_keys, common_seeds

__all__ = ["BEST", "SECOND", "ranks"]

BEST, SECOND = 1, 2
_SEEDS = 2  # that two rows must have in common


@dataclass(frozen=True, eq=False)
class _Contender:
    """Rows that are one run. value: what the table shows, turned so that more is better."""

    rows: tuple[int, ...]
    value: float
    known: Evidence


def ranks(frame: pd.DataFrame, evidence: Mapping[tuple[int, str], Evidence]) -> dict[tuple[int, str, str], int]:
    """(row index, data set, metric) -> `BEST` or `SECOND`, for those that the data single out.

    frame, evidence: as `frames.table_frame` makes and takes them. Metrics that are not resampled over videos have no
    places: static ones, costs, numbers of whole runs.
    """
    found = {}
    measured = frame[(frame["status"] == "measured") & frame["ci_low"].notna()]
    for (metric, dataset), cells in measured.groupby(["metric", "dataset"], sort=False):
        contenders = _contenders(cells, str(metric), str(dataset), evidence)
        for place in (BEST, SECOND):
            first = _winner(contenders, str(metric))
            if first is None:
                break
            found.update({(row, str(dataset), str(metric)): place for row in first.rows})
            contenders.remove(first)
    return found


def _contenders(
    cells: pd.DataFrame, metric: str, dataset: str, evidence: Mapping[tuple[int, str], Evidence]
) -> list[_Contender]:
    """Differences to a baseline have none: no run knows them as a metric of its own."""
    together: dict[tuple[str, ...], list[tuple[int, float, Evidence]]] = {}
    for row, value in zip(cells["row"], cells["measured"], strict=True):
        known = evidence[int(row), dataset]
        having = [run for run in known.evaluations if metric in run.sources]
        if having:
            sign = -1 if less_is_better(having[0].sources[metric].statistic) else 1
            together.setdefault(tuple(cell_keys(having, metric).values()), []).append((int(row), sign * value, known))
    return [_Contender(tuple(row for row, *_ in same), *same[0][1:]) for same in together.values()]


def _winner(contenders: Sequence[_Contender], metric: str) -> _Contender | None:
    """The one that is better than every other one; None where that is open, or there is no other one."""
    first = max(contenders, key=lambda contender: contender.value, default=None)
    others = [contender for contender in contenders if contender is not first]
    if first is None or not others:
        return None
    return first if all(_better(first.known, other.known, metric) for other in others) else None


def _better(here: Evidence, there: Evidence, metric: str) -> bool:
    pairs = common_seeds(here, there, metric)
    ours, theirs = ([run[side].sources[metric].resampled for run in pairs] for side in (0, 1))
    if len(pairs) < _SEEDS or not _same_videos([each.video_ids for each in (*ours, *theirs)]):
        return False
    statistic = pairs[0][0].sources[metric].statistic
    found = paired_difference(ours, theirs, statistic)
    return found.ci_high < 0 if less_is_better(statistic) else found.ci_low > 0


def _same_videos(identifiers: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(each, identifiers[0]) for each in identifiers)
