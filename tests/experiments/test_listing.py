"""The list of tables."""

from __future__ import annotations

import io
from pathlib import Path

import devis
import taformer
from listing import duration, num_runs, num_trainings, print_list, status
from rich.console import Console

from vislab.report.tables.files import table_path, write_table
from vislab.report.tables.frames import Evidence, ReportRow, ReportTable, table_frame
from vislab.report.tables.views import TableText


def report(tmp_path: Path) -> Path:
    """Two own rows on one data set, one of them failed, and a copied one."""
    rows = (ReportRow(0, "a", True), ReportRow(1, "b", True), ReportRow(2, "c", False))
    table = ReportTable("taformer", "T3", "tiny", ("AP",), rows, ("clean",))
    write_table(table_frame(table, {(1, "clean"): Evidence(failures=("no",))}), TableText("t"), tmp_path)
    return table_path(tmp_path, "tiny", "taformer", "T3")


def test_every_table_with_cost_and_status(tmp_path: Path) -> None:
    report(tmp_path)
    screen = io.StringIO()
    print_list([taformer.PAPER], tmp_path, Console(file=screen, width=140))
    text = screen.getvalue()
    for table in taformer.PAPER.tables:
        assert f" {table.id} " in text
    assert "19" in text and "tiny 0/2, 1 failed" in text


def test_runs_are_rows_times_data_sets() -> None:
    assert num_runs(taformer.T3, "tiny") == 8 and num_runs(taformer.T3, "paper") == 4
    assert num_runs(taformer.T1, "tiny") == 1 and num_runs(taformer.T1, "paper") == 1


def test_rows_that_differ_at_inference_cost_one_training() -> None:
    assert (num_runs(devis.T5, "tiny"), num_trainings(devis.PAPER, devis.T5, "tiny")) == (8, 2)
    assert (num_runs(devis.T1, "paper"), num_trainings(devis.PAPER, devis.T1, "paper")) == (10, 9)
    assert num_trainings(taformer.PAPER, taformer.T3, "tiny") == 8


def test_duration() -> None:
    assert [duration(minutes) for minutes in (0.2, 40, 200)] == ["12 s", "40 min", "3 h"]


def test_status_counts_rows(tmp_path: Path) -> None:
    assert status(report(tmp_path)) == "0/2, 1 failed"
