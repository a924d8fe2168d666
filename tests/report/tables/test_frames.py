"""The long-form frame: every number in its place, with the right status and interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hand_made import CLEAN, DIAL, evaluation, evidence_of, report_table

from vislab.metrics.statistics import bootstrap, paired_difference
from vislab.report.tables.frames import (
    COLUMNS,
    COSTS,
    DIFFERENCE,
    Evidence,
    ReportRow,
    cell_keys,
    compared_metric,
    difference_of,
    split_keys,
    table_frame,
)
from vislab.report.tables.views import TableText, build_view


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


TRACKED = ("AP", "AP50", "MOTA", "IDs")


def tracked(seed: int, values: list[float], metrics: tuple[str, ...] = TRACKED) -> Evidence:
    return Evidence((evaluation(seed, np.array(values), metrics),))


def tracking_frame(known: dict, **changes: object) -> pd.DataFrame:
    return table_frame(report_table(datasets=(CLEAN,), tracking=("MOTA", "IDs"), **changes), known)


def test_tracking_metrics_keep_their_units_and_bounds() -> None:
    """Fractions become percent and may be negative, counts stay as they are; neither interval is cut to 0..1."""
    values = [-0.5, -0.3, -0.2, -0.6]
    frame = tracking_frame({(0, CLEAN): tracked(0, values)})
    found = cell(frame, 0, "MOTA", CLEAN)
    assert found["measured"] == pytest.approx(-40) and math.isnan(found["reported"])
    assert -60 < found["ci_low"] < -40 < found["ci_high"] < -20
    counts = cell(tracking_frame({(0, CLEAN): tracked(0, [30.0, 40.0, 20.0, 10.0])}), 0, "IDs", CLEAN)
    assert counts["measured"] == 25 and 10 < counts["ci_low"] < 25 < counts["ci_high"] < 40
    none = cell(tracking_frame({(0, CLEAN): tracked(0, [0.0, 0.0, 0.0, 1.0])}), 0, "IDs", CLEAN)
    assert none["ci_low"] == 0
    best = cell(tracking_frame({(0, CLEAN): tracked(0, [1.0, 1.0, 1.0, 0.5])}), 0, "MOTA", CLEAN)
    assert best["ci_high"] == 100


def test_unbounded_interval_is_that_of_the_bootstrap() -> None:
    """Of a metric that stays within 0 and 1 anyway, in two seeds."""
    seeds = [evaluation(i, np.array([0.5, 0.6, 0.4, 0.55]) + 0.05 * i, TRACKED) for i in range(2)]
    frame = tracking_frame({(0, CLEAN): Evidence(tuple(seeds))})
    ap, mota = (cell(frame, 0, metric, CLEAN) for metric in ("AP", "MOTA"))
    assert list(ap[["measured", "std", "n", "ci_low", "ci_high"]]) == list(
        mota[["measured", "std", "n", "ci_low", "ci_high"]]
    )


def test_tracking_metrics_are_compared_with_the_baseline() -> None:
    known = {(0, CLEAN): tracked(0, [0.1, 0.3]), (1, CLEAN): tracked(0, [0.6, 0.6])}
    frame = tracking_frame(known)
    assert cell(frame, 1, "MOTA_difference", CLEAN)["measured"] == pytest.approx(40)
    assert cell(frame, 1, "IDs_difference", CLEAN)["measured"] == pytest.approx(0.4)
    assert cell(frame, 1, "IDs_difference", CLEAN)["ci_high"] == pytest.approx(0.5)
    assert cell(frame, 1, "AP_difference", CLEAN)["measured"] == pytest.approx(40)
    assert not ((frame["row"] == 0) & frame["metric"].str.endswith("_difference")).any()
    own = list(frame.loc[frame["row"] == 1, "metric"])
    assert own[own.index("MOTA") :][:4] == ["MOTA", "MOTA_difference", "IDs", "IDs_difference"]


def test_rows_without_tracking_say_so_and_keep_their_ap() -> None:
    known = {(0, CLEAN): tracked(0, [0.1, 0.3]), (1, CLEAN): tracked(0, [0.6, 0.6], ("AP", "AP50"))}
    frame = tracking_frame(known)
    statuses = {m: cell(frame, 1, m, CLEAN)["status"] for m in ("AP", "AP_difference", "MOTA", "MOTA_difference")}
    assert statuses == {"AP": "measured", "AP_difference": "measured", "MOTA": "not-run", "MOTA_difference": "not-run"}
    assert math.isnan(cell(frame, 1, "MOTA", CLEAN)["measured"])


def test_tracking_columns_of_a_paper_are_measured_beside_its_numbers() -> None:
    rows = (ReportRow(0, "a", True, {"IDs": 202}), ReportRow(1, "b", True, {"IDs": 98}, baseline=0))
    table = report_table(rows=rows, columns=("IDs",), static=(), datasets=(CLEAN,))
    frame = table_frame(table, {(0, CLEAN): tracked(0, [3.0, 5.0]), (1, CLEAN): tracked(0, [2.0, 2.0])})
    assert list(cell(frame, 0, "IDs", CLEAN)[["reported", "measured"]]) == [202, 4]
    assert list(cell(frame, 1, "IDs_difference", CLEAN)[["reported", "measured"]]) == [-104, -2]
    assert "AP_difference" not in set(frame["metric"])  # there is no AP column for it to stand beside
    assert build_view(frame, TableText("t")).sections[0].lines[1].cells


def test_differences_know_their_metric() -> None:
    assert compared_metric(difference_of("IDs")) == "IDs" and compared_metric("IDs") is None
    assert difference_of("AP") == DIFFERENCE


def test_keys_of_a_cell_are_read_as_they_were_written() -> None:
    evaluations = evidence_of(0.1, 0.2, 0.3).evaluations
    assert split_keys(cell_keys(evaluations)) == [(each.train_key, each.eval_key) for each in evaluations]
    assert split_keys(cell_keys([])) == []
