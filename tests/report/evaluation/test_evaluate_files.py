"""The work of `vislab evaluate` where a person looks on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from evaluation_sets import ground_truth, results
from rich.console import Console

from vislab.metrics.evaluation import Plan
from vislab.metrics.measure import Settings
from vislab.report.evaluation import evaluate


def test_file_names_in_the_progress_bar_are_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a[red]"
    (folder / "b[").mkdir(parents=True)
    truth, found = folder / "gt.json", folder / "b[" / "].json"  # "[/]" would close what nothing has opened
    truth.write_text(json.dumps(ground_truth()))
    found.write_text(json.dumps(results(1)))
    screen = Console(file=io.StringIO(), force_terminal=True, width=400)
    monkeypatch.setattr(evaluate, "Console", lambda stderr: screen)
    plan, shown = Plan(Settings(("mot",)), replicates=5), Console(file=io.StringIO())
    evaluate.evaluate_files(truth, [found], [], plan, evaluate.Outputs(), workers=1, console=shown)
    assert f"matching {found}" in screen.file.getvalue()  # type: ignore[attr-defined]
