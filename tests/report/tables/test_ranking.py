"""Best and second rows: only where every comparison that it takes is resolved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from hand_made import CLEAN, DIAL, evaluation, evidence_of, report_table

from vislab.metrics.statistics import paired_difference
from vislab.report.tables.frames import Evidence, ReportRow, Source, table_frame
from vislab.report.tables.ranking import BEST, SECOND, ranks

NUM_VIDEOS = 60


def noisy(*means: float, seed: int, spread: float = 0.2, metric: str = "AP", run: str = "") -> Evidence:
    """A seed of training for each mean, on videos that scatter independently of those of other rows."""
    rng = np.random.default_rng(seed)
    known = [evaluation(i, mean + rng.normal(0, spread, NUM_VIDEOS), (metric,)) for i, mean in enumerate(means)]
    return Evidence(tuple(replace(each, train_key=f"{run or seed}-{each.seed}") for each in known))


def table_of(*known: Evidence, metric: str = "AP", **changes: object) -> tuple[pd.DataFrame, dict]:
    rows = tuple(ReportRow(index, f"row {index}", True, {metric: 40.0 + index}) for index in range(len(known)))
    table = report_table(rows=rows, columns=(metric,), static=(), datasets=(CLEAN,), **changes)
    evidence = {(index, CLEAN): each for index, each in enumerate(known)}
    return table_frame(table, evidence), evidence


def places(*known: Evidence, metric: str = "AP") -> dict[int, int]:
    """Row -> place."""
    found = ranks(*table_of(*known, metric=metric))
    assert {key[1:] for key in found} <= {(CLEAN, metric)}
    return {row: place for (row, *_), place in found.items()}


def test_rows_far_apart_have_places() -> None:
    rows = [noisy(*means, seed=i) for i, means in enumerate([(0.2, 0.21), (0.8, 0.81), (0.5, 0.51), (0.22, 0.2)])]
    assert places(*rows) == {1: BEST, 2: SECOND}


def test_places_follow_the_paired_intervals() -> None:
    """The row in front takes its place exactly if its difference to every other row is resolved."""
    outcomes = set()
    for gap in (0.0, 0.04, 0.08, 0.2):
        rows = [noisy(*(mean, mean + 0.01, mean), seed=i) for i, mean in enumerate([0.4, 0.4 + gap, 0.4 + gap / 2])]
        runs = [[run.sources["AP"].resampled for run in row.evaluations] for row in rows]
        values = [np.mean([run.summaries(None, ["AP"])["AP"][0] for run in each]) for each in runs]
        first = int(np.argmax(values))
        resolved = all(paired_difference(runs[first], runs[i]).ci_low > 0 for i in range(3) if i != first)
        assert (places(*rows).get(first) == BEST) == resolved
        outcomes.add(resolved)
    assert outcomes == {True, False}


def test_one_open_comparison_leaves_the_place_open_and_the_second_too() -> None:
    near = [noisy(0.8, 0.81, seed=0), noisy(0.8, 0.81, seed=1, spread=0.25), noisy(0.3, 0.31, seed=2)]
    assert places(*near) == {}


def test_second_is_open_where_only_the_best_is_not() -> None:
    rows = [noisy(0.9, 0.91, seed=0), noisy(0.4, 0.41, seed=1), noisy(0.4, 0.41, seed=2)]
    assert places(*rows) == {0: BEST}


def test_of_two_rows_only_the_better_one_has_a_place() -> None:
    assert places(noisy(0.2, 0.2, seed=0), noisy(0.8, 0.8, seed=1)) == {1: BEST}


def test_fewer_is_better_for_counts() -> None:
    rows = [noisy(*counts, seed=i, metric="IDs") for i, counts in enumerate([(90, 91), (20, 21), (50, 51)])]
    assert places(*rows, metric="IDs") == {1: BEST, 2: SECOND}


def test_a_column_with_another_name_goes_by_what_it_counts() -> None:
    def renamed(known: Evidence) -> Evidence:
        runs = [
            replace(run, sources={"switches": Source(run.sources["IDs"].resampled, "IDs")}) for run in known.evaluations
        ]
        return Evidence(tuple(runs))

    rows = [renamed(noisy(*counts, seed=i, metric="IDs")) for i, counts in enumerate([(0.9, 0.9), (0.2, 0.2)])]
    assert places(*rows, metric="switches") == {1: BEST}


def test_one_seed_resolves_nothing() -> None:
    assert places(noisy(0.2, seed=0), noisy(0.9, seed=1)) == {}
    assert places(noisy(0.2, 0.2, seed=0), noisy(0.9, seed=1)) == {}
    apart = Evidence((replace(noisy(0.9, seed=1).evaluations[0], seed=7), *noisy(0.9, seed=2).evaluations))
    assert places(noisy(0.2, 0.2, seed=0), apart) == {}  # seed 0 alone is common


def test_rows_that_are_one_run_share_their_place() -> None:
    same = noisy(0.9, 0.91, seed=0, run="same")
    rows = [same, noisy(0.5, 0.51, seed=1), same, noisy(0.2, 0.21, seed=2)]
    assert places(*rows) == {0: BEST, 2: BEST, 1: SECOND}
    assert places(same, same) == {}


def test_other_videos_cannot_be_compared() -> None:
    short = Evidence(tuple(evaluation(i, np.full(10, 0.9), ("AP",)) for i in range(2)))
    assert places(noisy(0.2, 0.2, seed=0), short) == {}


def test_undefined_missing_and_failed_rows_stay_out() -> None:
    undefined = Evidence(tuple(evaluation(i, np.full(NUM_VIDEOS, np.nan), ("AP",)) for i in range(2)))
    known = [noisy(0.2, 0.2, seed=0), noisy(0.9, 0.9, seed=1), undefined, Evidence(failures=("no",)), Evidence()]
    assert places(*known) == {1: BEST}
    assert places(Evidence(), Evidence()) == {} and places(undefined, undefined) == {}


def test_data_sets_and_metrics_are_ranked_apart_and_differences_and_static_cells_not_at_all() -> None:
    known = {
        (0, DIAL): evidence_of(0.30, 0.31, 0.32), (1, DIAL): evidence_of(0.60, 0.63, 0.62),
        (0, CLEAN): evidence_of(0.70, 0.71, 0.72), (1, CLEAN): evidence_of(0.45, 0.44, 0.46),
    }  # fmt: skip
    known = {
        (row, dataset): Evidence(
            tuple(replace(run, train_key=f"{row}-{dataset}-{run.seed}") for run in each.evaluations)
        )
        for (row, dataset), each in known.items()
    }
    found = ranks(table_frame(report_table(), known), known)
    assert found == {
        (1, DIAL, "AP"): BEST, (1, DIAL, "AP50"): BEST, (0, CLEAN, "AP"): BEST, (0, CLEAN, "AP50"): BEST
    }  # fmt: skip
