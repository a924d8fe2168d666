"""The page about all papers, from reports that the tests write by hand."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import taformer
import tevit
from reproduce_table import main
from summary import agreement_view, rows_view, write_summary

from vislab.report.tables import agreement
from vislab.report.tables.agreement import Agreement
from vislab.report.tables.files import csv_text
from vislab.report.tables.frames import COLUMNS

PAPERS = [taformer.PAPER, tevit.PAPER]
MADE = Agreement("taformer", "T3", "tiny", "clean", "AP", 4, 0.33, -0.33, 1.0, 3, 2, 1, 0, 4.21)


def line(row: int, metric: str, dataset: str, **cells: object) -> dict[str, object]:
    empty = dict.fromkeys(COLUMNS, math.nan) | {"train_key": "a b", "eval_key": "c d", "n": 2}
    place = {"paper": "taformer", "table": "T3", "scale": "tiny", "row": row, "label": f"row {row}"}
    return empty | place | {"metric": metric, "dataset": dataset, "status": "measured"} | cells


def write_reports(reports: Path) -> None:
    lines = [
        line(0, "AP", "clean", reported=44.9, measured=30.0, std=1.0, ci_low=28.0, ci_high=31.0),
        line(0, "AP", "dial", reported=44.9, status="not-run", n=0),
        line(1, "AP", "clean", reported=46.0, measured=35.04, std=1.0, ci_low=33.0, ci_high=36.0),
        line(1, "AP_difference", "clean", reported=1.1, measured=5.04, std=0.5, ci_low=2.0, ci_high=8.0),
        line(1, "AP", "dial", reported=46.0, status="failed", n=0),
    ]
    folder = reports / "tiny" / "taformer"
    folder.mkdir(parents=True)
    (folder / "T3.csv").write_text(csv_text(pd.DataFrame(lines, columns=list(COLUMNS))))
    agreement.update(folder, "T3", [MADE])


def texts(tmp_path: Path, label: str) -> dict[tuple[int, str], list[str]]:
    """(row, data set) -> the other cells, of one table."""
    section = next(each for each in rows_view(PAPERS, "tiny", tmp_path).sections if each.heading.startswith(label))
    return {(each.index, each.cells[0].value): [cell.head() for cell in each.cells[1:]] for each in section.lines}


def test_every_own_row_of_every_table_has_a_line(tmp_path: Path) -> None:
    sections = rows_view(PAPERS, "tiny", tmp_path).sections
    tables = [table for paper in PAPERS for table in paper.tables]
    assert len(sections) == len(tables)
    for section, table in zip(sections, tables, strict=True):
        assert {each.index for each in section.lines} == {row.index for row in table.own_rows()}
        assert all(each.cells[1].value.startswith("not run") for each in section.lines)


def test_a_rows_line_is_what_its_table_shows(tmp_path: Path) -> None:
    write_reports(tmp_path)
    found = texts(tmp_path, "TAFormer T3")
    assert found[0, "clean"] == ["measured, 2 seeds", "AP", "44.9", "30.0 ± 1.0 (2)", "–", "–"]
    assert found[1, "clean"] == ["measured, 2 seeds", "AP", "46.0", "35.0 ± 1.0 (2)", "+1.1", "+5.0 ± 0.5 (2)"]
    assert found[0, "dial"][0] == "not run" and found[1, "dial"][0] == "failed"
    assert found[2, "clean"][0] == "not run"  # declared, not in the report


def test_a_row_that_cannot_run_says_why(tmp_path: Path) -> None:
    assert "too large for this scale" in texts(tmp_path, "TAFormer T1")[21, "synthetic-ytvis19"][0]


def test_agreement_has_a_line_for_each_comparison(tmp_path: Path) -> None:
    write_reports(tmp_path)
    (section,) = agreement_view(PAPERS, "tiny", tmp_path).sections
    (shown,) = section.lines
    assert (section.heading, shown.label) == ("TAFormer", "T3, clean, AP")
    assert [cell.value for cell in shown.cells] == ["4", "0.33 [-0.33, 1.00]", "2 of 3", "1", "0", "4.2"]


def test_the_command_writes_the_same_bytes_again(tmp_path: Path) -> None:
    write_reports(tmp_path)
    assert main(["--summary", "--reports", str(tmp_path)]) == 0
    first = [path.read_bytes() for path in write_summary(PAPERS, "tiny", tmp_path)]
    assert [path.read_bytes() for path in write_summary(PAPERS, "tiny", tmp_path)] == first
    page = first[1].decode()
    HTMLParser().feed(page)
    assert page.count("<table>") == 2 and "http" not in page.replace("http-equiv", "")


def test_nothing_was_run(tmp_path: Path) -> None:
    view = agreement_view(PAPERS, "small", tmp_path)
    assert not view.sections and view.footnotes == ("No table at this scale has two rows to compare with the paper's.",)
