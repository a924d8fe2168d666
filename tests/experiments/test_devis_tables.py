"""DeVIS' tables through the command: several data sets, shared trainings, static tables, and one real run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import devis
import pandas as pd
import pytest
import reproduce_table
from fake_launcher import FakeLauncher
from reproduce_table import main
from scales import CLEAN

from vislab.report.tables.files import read_table, table_path


@pytest.fixture(autouse=True)
def starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_table, "PAPERS", {"devis": replace(devis.PAPER, pretraining=None)})


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    fake = FakeLauncher()
    monkeypatch.setattr(reproduce_table, "launch", fake)
    return fake


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are looked for whole."""
    monkeypatch.setenv("COLUMNS", "200")


def run(tmp_path: Path, *arguments: str) -> int:
    folders = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    return main(["devis", *arguments, *folders, "--device", "cpu", "--jobs", "1"])


def frame(tmp_path: Path, table: str, scale: str = "tiny") -> pd.DataFrame:
    return read_table(table_path(tmp_path / "reports", scale, "devis", table))


def text(tmp_path: Path, table: str, scale: str = "tiny") -> str:
    return table_path(tmp_path / "reports", scale, "devis", table, "md").read_text()


def test_each_data_set_stands_beside_the_papers_numbers_on_its_own(tmp_path: Path, launcher: FakeLauncher) -> None:
    assert run(tmp_path, "T3", "--rows", "0,2") == 0
    assert len(launcher.launched) == 4
    found = frame(tmp_path, "T3").query("metric == 'AP'").set_index(["dataset", "row"])
    assert found.loc[CLEAN, "reported"].tolist() == [44.4, 41.2, 41.0, 42.4, 41.6]
    assert found.loc[devis.CROWDS, "reported"].tolist()[:2] == [23.8, 19.7]
    assert found.loc[devis.CROWDS, "reported"].isna().tolist() == [False, False, True, True, True]
    differences = frame(tmp_path, "T3").query("metric == 'AP_difference' and row == 1").set_index("dataset")
    assert differences["reported"].to_dict() == {CLEAN: pytest.approx(-3.2), devis.CROWDS: pytest.approx(-4.1)}
    assert "synthetic-ovis (standing in for OVIS val)" in text(tmp_path, "T3")
    assert "clips of 3 or 6 or 9 or 12 frames" in text(tmp_path, "T3")


def test_other_methods_have_numbers_on_every_data_set(tmp_path: Path, launcher: FakeLauncher) -> None:
    run(tmp_path, "T6", "--rows", "18")
    assert len(launcher.launched) == 3
    found = frame(tmp_path, "T6")
    copied = found.query("metric == 'AP' and row == 4").set_index("dataset")["reported"]
    assert copied.to_dict() == {CLEAN: 36.3, "synthetic-ytvis21": 34.2, devis.CROWDS: 18.1}
    assert len(found.query("metric == 'FPS' and row == 4")) == 1
    assert not found.duplicated(["row", "metric", "dataset"]).any()
    assert set(found.query("metric == 'AP' and row == 19")["status"]) == {"not-run"}


def test_real_data_replaces_the_stand_ins(tmp_path: Path, launcher: FakeLauncher) -> None:
    run(tmp_path, "T3", "--data", "synthetic-ytvis19+faint=0.5", "--rows", "0")
    found = frame(tmp_path, "T3").query("metric == 'AP'")
    assert found["reported"].tolist() == [44.4, 41.2, 41.0, 42.4, 41.6]


def test_rows_that_differ_at_inference_are_one_job(tmp_path: Path, launcher: FakeLauncher) -> None:
    run(tmp_path, "T5", "X1", "T1", "--seeds", "2")
    by_data = {}
    for job in launcher.launched:
        by_data.setdefault(job.dataset, []).append(len(job.runs))
    assert by_data[devis.CROSSING] == [5, 5]  # T5's four rows and X1's one more
    assert by_data[devis.TWINS] == by_data[devis.LEAVING] == [5, 5]
    assert sorted(by_data[CLEAN]) == [1] * 16 + [2] * 2 + [4] * 2  # T1, with rows 8 and 9, and 10 as in T5


def test_training_hours_are_means_over_seeds_without_an_interval(tmp_path: Path, launcher: FakeLauncher) -> None:
    run(tmp_path, "T1", "--rows", "4,10", "--seeds", "2")
    found = frame(tmp_path, "T1").query("metric == 'training_gpu_hours'").set_index("row")
    assert found.loc[4, "measured"] == pytest.approx(1 / 60, abs=1e-4) and found.loc[4, "n"] == 2
    assert found.loc[4, "std"] == 0 and found[["ci_low", "ci_high"]].isna().all(axis=None)
    assert found.loc[4, "reported"] == 48 and len(found.loc[4, "train_key"].split()) == 2
    assert found.loc[3, "status"] == "not-run" and found["measured"].isna().loc[3]
    shown = text(tmp_path, "T1")
    assert "Training hours: measured ones are of one run" in shown and "peak (GiB)" in shown
    assert "37.47 M in the released configuration" in shown


def test_static_tables_need_no_runs(tmp_path: Path, launcher: FakeLauncher, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--static", "--check") == 0
    assert not launcher.launched
    printed = capsys.readouterr().out
    assert "55 of 57 cells agree" in printed and "differs, as known" in printed
    order, dims = (frame(tmp_path, table, "paper") for table in ("TA.0", "TA.1"))
    assert (order["measured"] == order["reported"]).all() and len(order) == 30
    assert dims.query("row == 3")["measured"].tolist() == [512, 1280, 2048, 2816]
    assert (dims["measured"] == dims["reported"]).all()
    parameters = frame(tmp_path, "T1", "paper").query("metric == 'params_M' and row == 4")
    assert (parameters["reported"].item(), round(parameters["measured"].item(), 2)) == (41, 37.47)
    shown = text(tmp_path, "T1", "paper")
    assert "| 41 |" in shown and "37.47" in shown and "too large: one attention matrix" in shown
    both = text(tmp_path, "T3", "paper")
    assert "YTVIS-21 val" in both and "43.1" in both and "OVIS val" in both


def test_static_tables_are_shown_as_at_scale_paper(
    tmp_path: Path, launcher: FakeLauncher, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "TA.1", "--scale", "tiny")
    assert not launcher.launched and "2816" in capsys.readouterr().out
    assert table_path(tmp_path / "reports", "paper", "devis", "TA.1").exists()


def test_list_shows_cost_and_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "TA.0", "--static")
    capsys.readouterr()
    assert run(tmp_path, "--list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert "static" in lines["TA.0"] and "–" in lines["TA.0"]
    assert "8, " in lines["T5"] and "16, " in lines["TA.2"]


def test_one_row_trains_and_is_measured(tmp_path: Path) -> None:
    """With a real worker: clips, stitching, AP."""
    assert run(tmp_path, "T1", "--scale", "smoke", "--rows", "10") == 0
    found = frame(tmp_path, "T1", "smoke").query("row == 10").set_index("metric")
    assert found.loc[["AP", "training_gpu_hours", "params_M"], "status"].tolist() == ["measured", "measured", "static"]
    assert found.loc[["training_gpu_hours", "eval_minutes", "peak_memory_GiB"], "measured"].min() > 0
