"""trials.csv, trials.parquet and summary.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from sweep_sets import AP, GFLOPS, grid, record, sweep

from vislab.errors import UserError
from vislab.report.sweeps.sweep_files import best_rows, summary, write_sweep
from vislab.report.sweeps.sweep_frame import TrialRecord
from vislab.report.sweeps.sweep_plots import Axis


def test_files(tmp_path: Path) -> None:
    subject = sweep(grid(TrialRecord(12, "failed", {"k_inter": 4}, note="it broke")))
    written, missing = write_sweep(subject, "taformer: k_inter, clip_length", ["A note."], tmp_path)
    assert {path.name for path in written} >= {"trials.csv", "summary.md", "AP_by_k_inter.pdf"}
    assert all(path.exists() for path in written)
    frame = pd.read_csv(tmp_path / "trials.csv")
    assert len(frame) == 13 and list(frame.loc[frame["best"], "trial"]) == [8]
    assert "AP_ci_low" in frame and "GFLOPs_ci_low" not in frame  # no trial has an interval of it
    first = (tmp_path / "trials.csv").read_bytes()
    write_sweep(subject, "taformer: k_inter, clip_length", ["A note."], tmp_path)
    assert (tmp_path / "trials.csv").read_bytes() == first
    assert any("parquet" in reason for reason in missing) == (importlib.util.find_spec("pyarrow") is None)


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    points = [{"fusion": "AdditionConfig", "k_inter": 1}, {"fusion": None, "k_inter": 2}]
    axes = (Axis("fusion", "fusion"), Axis("k_inter", "k_inter"))
    subject = sweep([record(n, point, 30.0, 0.3) for n, point in enumerate(points)], *axes)
    write_sweep(subject, "x", [], tmp_path)
    frame = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(frame["fusion"]) == ["AdditionConfig", "none"] and list(frame["k_inter"]) == [1, 2]
    assert list(frame["AP"]) == [30.0, 30.0] and frame["best"].dtype == bool


def test_summary_has_the_best_trials_first_and_says_what_failed() -> None:
    failed = TrialRecord(12, "failed", {"k_inter": 4}, note="it | broke")
    shares = {"AP": {"k_inter": 70.0, "clip_length": 30.0}}
    text = summary(sweep(grid(failed), importances=shares, importance_label="share"), "a: b_c", ["A *note*."])
    lines = text.splitlines()
    assert lines[0] == "### a: b\\_c" and "13 trials: 12 complete, 1 failed." in lines
    rows = [line for line in lines if line.startswith("| ") and "--:" not in line]
    assert rows[0] == "| trial | k\\_inter | clip\\_length | AP (%) | GFLOPs per frame |"
    assert rows[1] == "| 8 | 3 | 7 | 43.5 ± 1 \\[42.5, 44.5\\] | 0.23 |" and len(rows) == 13
    assert "What AP depends on (share): k\\_inter 70 %, clip\\_length 30 %." in lines
    assert "- Trial 12 failed: it \\| broke" in lines and lines[-1] == "- A \\*note\\*."


def test_several_objectives_mark_the_front() -> None:
    text = summary(sweep(grid(), objectives=(AP, GFLOPS)), "x", [])
    assert "| **8** | 3 | 7 |" in text and "| **2** | 1 | 7 |" in text and "| 0 | 1 | 3 |" in text


def test_long_tables_are_cut() -> None:
    many = [record(n, {"k_inter": n, "clip_length": 3}, float(n), 0.3) for n in range(30)]
    text = summary(sweep(many), "x", [])
    assert "10 more are in trials.csv." in text and "| 29 |" in text and "| 9 |" not in text
    heads, rows = best_rows(sweep(many), 3)
    assert heads[0] == "trial" and [row[0] for row, _ in rows] == ["29", "28", "27"] and rows[0][1] and not rows[1][1]


def test_a_sweep_without_finished_trials(tmp_path: Path) -> None:
    subject = sweep([TrialRecord(0, "running", {"k_inter": 1, "clip_length": 3})])
    written, missing = write_sweep(subject, "x", [], tmp_path)
    assert "1 trials: 1 running." in (tmp_path / "summary.md").read_text()
    assert "no figure of anything: fewer than two trials are complete" in missing and len(written) in (2, 3)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_sweep(sweep(grid()), "x", [], tmp_path / "file" / "folder")
