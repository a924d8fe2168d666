"""Agreement with the paper: against scipy's Kendall's tau, on hand-made tables, and as a file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_made import CLEAN, evidence_of, report_table
from scipy.stats import kendalltau

from vislab.errors import UserError
from vislab.report.tables.agreement import FILE, Agreement, agreements, kendall_tau, read, sentence, update
from vislab.report.tables.frames import Evidence, ReportRow, table_frame


def rows(*reported: float | None) -> tuple[ReportRow, ...]:
    return tuple(
        ReportRow(index, f"row {index}", True, {"AP": value}, baseline=0 if index else None)
        for index, value in enumerate(reported)
    )


def own_runs(row: int, evidence: Evidence) -> Evidence:
    """Under keys that no other row has."""
    runs = (replace(run, train_key=f"{row}{run.train_key}") for run in evidence.evaluations)
    return replace(evidence, evaluations=tuple(runs))


def found_for(reported: tuple[float | None, ...], *means: tuple[float, ...]) -> list[Agreement]:
    """means: of the seeds of each row; no seeds for a row that was not run."""
    known = {(index, CLEAN): own_runs(index, evidence_of(*seeds)) for index, seeds in enumerate(means) if seeds}
    table = report_table(rows=rows(*reported), columns=("AP",), static=(), datasets=(CLEAN,))
    return agreements(table_frame(table, known), known)


@pytest.mark.parametrize("seed", range(20))
def test_tau_is_scipys(seed: int) -> None:
    random = np.random.default_rng(seed)
    reported, measured = random.integers(0, 4, 6), random.integers(0, 4, (5, 6))
    expected = [kendalltau(reported, line).statistic for line in measured]
    np.testing.assert_allclose(kendall_tau(reported.astype(float), measured.astype(float)), expected)


def test_the_same_order_far_apart() -> None:
    (found,) = found_for((40.0, 41.0, 43.0), (0.1, 0.11, 0.09), (0.2, 0.21, 0.19), (0.3, 0.31, 0.29))
    assert (found.metric, found.dataset, found.rows) == ("AP", CLEAN, 3)
    assert (found.tau, found.tau_low, found.tau_high) == (1.0, 1.0, 1.0)
    assert (found.compared, found.same_sign, found.resolved, found.opposite) == (2, 2, 2, 0)


def test_the_reverse_order() -> None:
    (found,) = found_for((40.0, 41.0), (0.3, 0.31), (0.1, 0.12))
    assert found.tau == -1 and (found.same_sign, found.resolved, found.opposite) == (0, 0, 1)


def test_what_the_data_do_not_resolve_is_not_counted_as_resolved() -> None:
    (found,) = found_for((40.0, 41.0, 42.0), (0.1, 0.5, 0.3), (0.5, 0.1, 0.31), (0.3, 0.3, 0.35))
    assert (found.resolved, found.opposite) == (0, 0) and found.compared == 2
    assert found.tau_low < 0 < found.tau_high and found.visible > 5


def test_visible_is_of_the_width_of_the_interval() -> None:
    """A difference of 2.8 standard errors has a power of 80 % in a two-sided normal test at 5 %."""
    from scipy.stats import norm

    (found,) = found_for((40.0, 41.0), (0.1, 0.3, 0.2), (0.3, 0.1, 0.15))
    known = {(0, CLEAN): evidence_of(0.1, 0.3, 0.2), (1, CLEAN): evidence_of(0.3, 0.1, 0.15)}
    frame = table_frame(report_table(rows=rows(40.0, 41.0), columns=("AP",), static=(), datasets=(CLEAN,)), known)
    line = frame[frame["metric"] == "AP_difference"].dropna(subset=["ci_low"]).iloc[0]
    error = (line["ci_high"] - line["ci_low"]) / (2 * norm.ppf(0.975))
    assert norm.sf(norm.ppf(0.975) - found.visible / error) == pytest.approx(0.8, abs=1e-3)


def test_rows_that_were_not_run_or_are_not_reported_are_left_out() -> None:
    assert found_for((40.0, 41.0), (0.1,), ()) == []
    assert found_for((40.0, None), (0.1,), (0.2,)) == []
    (found,) = found_for((40.0, 41.0, None, 42.0), (0.1,), (0.2,), (0.3,), ())
    assert found.rows == 2 and found.compared == 1


def test_rows_that_are_the_same_runs_count_once() -> None:
    """Row 3 is row 1 again, with another reported number: alone it would be in the wrong place."""
    means = ((0.1, 0.11, 0.09), (0.2, 0.21, 0.19), (0.3, 0.31, 0.29), (0.2, 0.21, 0.19))
    known = {(index, CLEAN): own_runs(index, evidence_of(*seeds)) for index, seeds in enumerate(means)}
    table = report_table(rows=rows(40.0, 41.0, 43.0, 44.0), columns=("AP",), static=(), datasets=(CLEAN,))
    (apart,) = agreements(table_frame(table, known), known)
    assert (apart.rows, apart.compared) == (4, 3) and apart.tau < 1
    known[3, CLEAN] = known[1, CLEAN]
    assert agreements(table_frame(table, known), known) == found_for((40.0, 41.0, 43.0), *means[:3])
    other = {key: replace(each, evaluations=each.evaluations[:2]) for key, each in known.items() if key[0] in (1, 3)}
    assert agreements(table_frame(table, other), other) == [], "one row is no order"


def test_the_same_training_evaluated_otherwise_is_another_row() -> None:
    runs = evidence_of(0.2, 0.21)
    other = Evidence(tuple(replace(run, eval_key=f"other{run.eval_key}") for run in evidence_of(0.3, 0.31).evaluations))
    known = {(0, CLEAN): runs, (1, CLEAN): other}
    table = report_table(rows=rows(40.0, 41.0), columns=("AP",), static=(), datasets=(CLEAN,))
    (found,) = agreements(table_frame(table, known), known)
    assert (found.rows, found.tau) == (2, 1.0)


def test_equal_numbers_have_no_order() -> None:
    (found,) = found_for((40.0, 40.0), (0.1, 0.12), (0.2, 0.22))
    assert math.isnan(found.tau) and found.compared == 0
    assert "Kendall" not in sentence(found) and "sign" not in sentence(found)


def test_other_videos_in_one_row_leave_the_interval_open() -> None:
    from hand_made import evaluation

    known = {(0, CLEAN): evidence_of(0.1), (1, CLEAN): Evidence((evaluation(1, np.full(50, 0.2)),))}
    table = report_table(rows=rows(40.0, 41.0), columns=("AP",), static=(), datasets=(CLEAN,))
    (found,) = agreements(table_frame(table, known), known)
    assert found.tau == 1 and math.isnan(found.tau_low) and math.isnan(found.visible)


def test_a_sentence() -> None:
    made = Agreement("p", "T3", "tiny", "clean", "AP", 4, 0.33, -0.33, 1.0, 3, 2, 1, 0, 4.21)
    assert sentence(made) == (
        "Agreement with the paper on clean, AP: 2 of 3 differences have the paper's sign (1 resolved, 0 resolved "
        "against it); Kendall's tau of the order of 4 rows 0.33 [-0.33, 1.00]; a difference of 4.2 would be resolved "
        "in 4 of 5 repetitions."
    )


def test_a_tables_lines_are_replaced(tmp_path: Path) -> None:
    made = Agreement("p", "T3", "tiny", "clean", "AP", 4, 0.33, math.nan, math.nan, 3, 2, 1, 0, 4.21)
    update(tmp_path, "T5", [replace(made, table="T5")])
    update(tmp_path, "T3", [made, replace(made, dataset="dial")])
    assert list(read(tmp_path)["table"]) == ["T3", "T3", "T5"]
    first = (tmp_path / FILE).read_bytes()
    update(tmp_path, "T3", [made, replace(made, dataset="dial")])
    assert (tmp_path / FILE).read_bytes() == first
    update(tmp_path, "T3", [])
    pd.testing.assert_frame_equal(read(tmp_path), pd.DataFrame([vars(replace(made, table="T5"))]), check_dtype=False)


def test_nothing_to_say_makes_no_file(tmp_path: Path) -> None:
    update(tmp_path, "T3", [])
    assert not (tmp_path / FILE).exists() and read(tmp_path).empty


def test_another_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"agreement.csv: its columns are a, b; expected paper, table"):
        read(tmp_path)
