"""The README's status table says what the committed reports hold."""

from __future__ import annotations

from pathlib import Path

import reproduce_table
import taformer
from status_table import status_markdown

from vislab.report.tables.files import write_table
from vislab.report.tables.frames import Evidence, ReportRow, ReportTable, table_frame
from vislab.report.tables.views import TableText

ROOT = Path(reproduce_table.__file__).parents[1]


def test_the_readme_shows_what_the_reports_hold() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- STATUS -->")[1].split("<!-- /STATUS -->")[0].strip()
    papers = list(reproduce_table.PAPERS.values())
    assert shown == status_markdown(papers, ROOT / "reports"), "run reproduce_table.py --list --markdown"


def test_without_reports_nothing_was_run(tmp_path: Path) -> None:
    lines = status_markdown([taformer.PAPER], tmp_path).splitlines()
    assert lines[0] == "| table | smoke | tiny | small | paper |"
    assert len(lines) == 2 + len(taformer.PAPER.tables)
    assert all(line.endswith("| not run | not run | not run | not run |") for line in lines[2:])


def test_a_failed_row_is_not_measured(tmp_path: Path) -> None:
    rows = (ReportRow(0, "a", True), ReportRow(1, "b", True))
    table = ReportTable("taformer", "T3", "tiny", ("AP",), rows, ("clean",))
    write_table(table_frame(table, {(1, "clean"): Evidence(failures=("no",))}), TableText("t"), tmp_path)
    assert "| TAFormer T3 | not run | not run |" in status_markdown([taformer.PAPER], tmp_path)
