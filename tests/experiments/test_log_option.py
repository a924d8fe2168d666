"""--log and --html-report of reproduce_table.py: what is refused, what reaches the jobs, what is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import reproduce_table
import taformer
from fake_launcher import FakeLauncher
from reproduce_table import main

from vislab.engine.log_sinks import SINKS


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    monkeypatch.setattr(reproduce_table, "PAPERS", {"taformer": replace(taformer.PAPER, pretraining=None)})
    fake = FakeLauncher()
    monkeypatch.setattr(reproduce_table, "launch", fake)
    return fake


def call(tmp_path: Path, *more: str) -> int:
    folders = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports"), "--device", "cpu"]
    return main(["taformer", "T3", "--scale", "smoke", "--rows", "0", "--data", "synthetic-ytvis19", *folders, *more])


def test_names_reach_the_jobs_and_change_no_key(
    tmp_path: Path, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SINKS, "json", SINKS["wandb"])  # a package that is there
    assert call(tmp_path / "plain") == 0
    assert call(tmp_path / "logged", "--log", "json") == 0
    plain, logged = launcher.launched
    assert (plain.sinks, logged.sinks) == ((), ("json",))
    assert plain.keys(0) == logged.keys(0)


def test_an_unknown_name_runs_nothing(
    tmp_path: Path, launcher: FakeLauncher, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "--log", "tensorbord") == 2
    assert capsys.readouterr().err == "error: --log: there is no 'tensorbord'; expected any of tensorboard, wandb\n"
    assert not launcher.launched


def test_a_table_without_finished_runs_has_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: FakeLauncher, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce_table, "launch", FakeLauncher(failing=[0]))
    assert call(tmp_path, "--html-report") == 1
    assert "no page: none of the table's runs is finished" in capsys.readouterr().out
    assert not list(tmp_path.glob("reports/**/*-report.html"))


def test_the_page_of_a_table_is_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: FakeLauncher, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "vislab.report.runs.run_report.run_page", lambda view, groups, *_: f"{view.title}: {len(groups)}\n"
    )
    assert call(tmp_path, "--html-report") == 0
    path = tmp_path / "reports" / "smoke" / "taformer" / "T3-report.html"
    assert path.read_text().endswith(": 1\n") and str(path) in capsys.readouterr().out.replace("\n", "")
