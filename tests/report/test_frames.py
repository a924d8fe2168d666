"""The long-form frame: every number in its place, with the right status and interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hand_made import CLEAN, DIAL, evaluation, evidence_of, report_table

from vislab.metrics.statistics import bootstrap, paired_difference
from vislab.report.frames import COLUMNS, COSTS, Evidence, ReportRow, table_frame


def cell(frame: pd.DataFrame, row: int, metric: str, dataset: str = "") -> pd.Series:
    found = frame[(frame["row"] == row) & (frame["metric"] == metric) & (frame["dataset"] == dataset)]
    assert len(found) == 1
    return found.iloc[0]


def test_columns_are_those_of_the_contract(frame: pd.DataFrame) -> None:
    assert tuple(frame.columns) == COLUMNS
    contract = (
        "paper,table,row,label,metric,reported,measured,std,n,ci_low,ci_high,scale,dataset,status,train_key,eval_key"
    )
    assert ",".join(COLUMNS) == contract


def test_one_line_per_cell(frame: pd.DataFrame) -> None:
    assert not frame.duplicated(["row", "metric", "dataset"]).any()


def test_measured_cell_against_the_statistics(frame: pd.DataFrame) -> None:
    found = cell(frame, 0, "AP", DIAL)
    runs = [e.sources["AP"].resampled for e in evidence_of(0.30, 0.32, 0.31).evaluations]
    expected = bootstrap(runs, "AP")
    assert (found["reported"], found["status"], found["n"]) == (44.9, "measured", 3)
    assert found["measured"] == pytest.approx(31.0, abs=1e-3)
    assert found["std"] == pytest.approx(1.0, abs=1e-3)
    assert [found["ci_low"], found["ci_high"]] == pytest.approx(
        [100 * expected.ci_low, 100 * expected.ci_high], abs=1e-3
    )
    assert (found["train_key"], found["eval_key"]) == ("train0 train1 train2", "eval0 eval1 eval2")


def test_difference_is_paired(frame: pd.DataFrame) -> None:
    """The same videos scatter in the same way in both rows, so only the seeds make the difference uncertain."""
    found = cell(frame, 1, "AP_difference", DIAL)
    ours, theirs = ([e.sources["AP"].resampled for e in evidence_of(*means).evaluations]
                    for means in ((0.50, 0.53, 0.52), (0.30, 0.32, 0.31)))  # fmt: skip
    expected = paired_difference(ours, theirs, "AP")
    assert found["reported"] == 1.5
    assert found["measured"] == pytest.approx(20.6667, abs=1e-3)
    assert found["std"] == pytest.approx(np.std([20, 21, 21], ddof=1), abs=1e-3)
    assert found["ci_high"] == pytest.approx(100 * expected.ci_high, abs=1e-3)
    assert found["ci_high"] - found["ci_low"] < 2
    assert cell(frame, 1, "AP", DIAL)["ci_high"] - cell(frame, 1, "AP", DIAL)["ci_low"] > 2


def test_difference_pairs_the_seeds_that_both_rows_have() -> None:
    ours = Evidence((evaluation(0, [0.5, 0.6]), evaluation(2, [0.9, 0.8])))
    theirs = Evidence((evaluation(1, [0.1, 0.1]), evaluation(2, [0.3, 0.3])))
    frame = table_frame(report_table(datasets=(CLEAN,)), {(1, CLEAN): ours, (0, CLEAN): theirs})
    found = cell(frame, 1, "AP_difference", CLEAN)
    assert found["measured"] == pytest.approx(55.0) and found["n"] == 1
    assert math.isnan(found["std"])


def test_difference_without_a_baseline_run_is_not_run() -> None:
    frame = table_frame(report_table(datasets=(CLEAN,)), {(1, CLEAN): evidence_of(0.5)})
    found = cell(frame, 1, "AP_difference", CLEAN)
    assert found["status"] == "not-run" and math.isnan(found["measured"])


def test_single_seed_has_an_interval_but_no_deviation(frame: pd.DataFrame) -> None:
    found = cell(frame, 0, "AP", CLEAN)
    assert found["n"] == 1 and math.isnan(found["std"]) and found["ci_low"] < 45 < found["ci_high"]


def test_failed_and_missing_rows(frame: pd.DataFrame) -> None:
    assert cell(frame, 1, "AP", CLEAN)["status"] == "failed"
    assert cell(frame, 1, "AP_difference", CLEAN)["status"] == "failed"
    nothing = table_frame(report_table(), {})
    assert set(nothing[nothing["metric"] == "AP"]["status"]) == {"not-run", "reported-only"}
    assert nothing.loc[nothing["status"] == "not-run", ["measured", "n"]].fillna(0).eq(0).all(axis=None)


def test_static_and_copied_cells(frame: pd.DataFrame) -> None:
    static = cell(frame, 0, "params_M")
    assert (static["status"], static["reported"], static["measured"], static["n"]) == ("static", 49.3, 49.306, 0)
    assert cell(frame, 2, "params_M")["status"] == "reported-only"
    copied = cell(frame, 2, "AP")
    assert (copied["status"], copied["reported"]) == ("reported-only", 30.3) and math.isnan(copied["measured"])


def test_a_copied_row_that_is_built_here_has_its_static_cells() -> None:
    rows = (
        ReportRow(0, "SeqFormer", False, {"params_M": 49.3, "AP": 45.1}, {"params_M": 49.306, "params_unique_M": 48.0}),
    )
    frame = table_frame(report_table(rows=rows, columns=("params_M", "AP")), {})
    assert list(frame["status"]) == ["static", "reported-only", "static"]
    assert list(frame["metric"]) == ["params_M", "AP", "params_unique_M"]


def test_reported_is_never_filled(frame: pd.DataFrame) -> None:
    assert frame[frame["metric"].isin(COSTS)]["reported"].isna().all()
    assert math.isnan(cell(frame, 0, "AP50", DIAL)["reported"])
    assert frame[frame["status"] == "reported-only"]["measured"].isna().all()


def test_costs_are_means_over_seeds(frame: pd.DataFrame) -> None:
    minutes = cell(frame, 0, "train_minutes", DIAL)
    assert minutes["measured"] == pytest.approx(3.0) and minutes["std"] == pytest.approx(1.0)
    assert cell(frame, 0, "peak_memory_GiB", DIAL)["measured"] == 1.5


def test_undefined_metric_stays_undefined() -> None:
    known = {(0, CLEAN): Evidence((evaluation(0, np.full(5, np.nan)),))}
    found = cell(table_frame(report_table(datasets=(CLEAN,)), known), 0, "AP", CLEAN)
    assert found["status"] == "measured" and math.isnan(found["measured"]) and math.isnan(found["ci_low"])


def test_extra_metrics_follow_the_papers_columns() -> None:
    known = {(0, CLEAN): Evidence((evaluation(0, [0.2, 0.4], ("AP", "AP50", "IoU_evident")),))}
    frame = table_frame(report_table(datasets=(CLEAN,), extra=("IoU_evident",)), known)
    found = cell(frame, 0, "IoU_evident", CLEAN)
    assert found["measured"] == pytest.approx(30.0) and math.isnan(found["reported"])


def test_without_data_sets_the_cells_say_not_run() -> None:
    frame = table_frame(report_table(datasets=()), {})
    assert cell(frame, 0, "AP")["status"] == "not-run"


def test_table_without_reported_numbers_and_with_one_row() -> None:
    rows = (ReportRow(0, "ours", True),)
    frame = table_frame(
        report_table(rows=rows, columns=("AP",), static=(), datasets=(CLEAN,)), {(0, CLEAN): evidence_of(0.4)}
    )
    assert frame["reported"].isna().all()
    assert cell(frame, 0, "AP", CLEAN)["measured"] == pytest.approx(40.0)
