"""Markdown views: parse them back, look for what special characters do."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
from hand_made import DIAL

from vislab.report.tables.markdown import escape, markdown
from vislab.report.tables.views import TableText, build_view


def table_rows(text: str) -> list[list[str]]:
    """Cells of every table line, split at pipes that are not escaped."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]


def test_every_line_has_as_many_cells(frame: pd.DataFrame, text: TableText) -> None:
    rows = table_rows(markdown(build_view(frame, text)))
    assert {len(row) for row in rows} == {13}
    assert len(rows) == 2 * (2 + 3)


def test_numbers_stand_side_by_side(frame: pd.DataFrame, text: TableText) -> None:
    rows = table_rows(markdown(build_view(frame, text)))
    assert [cell.strip() for cell in rows[0][4:6]] == ["AP reported", "AP measured"]
    assert rows[2][4].strip() == "44.9"
    assert re.fullmatch(r"31\.0 ± 1\.0 \(3\) \[\d\d\.\d, \d\d\.\d\]", rows[2][5].strip())
    assert rows[3][7].strip().endswith("↑")


def test_best_is_bold_and_second_underlined(frame: pd.DataFrame, text: TableText) -> None:
    ranked = replace(text, ranks={(1, DIAL, "AP"): 1, (0, DIAL, "AP"): 2})
    rows = table_rows(markdown(build_view(frame, ranked)))
    assert rows[3][5].strip().startswith("**51.7** ± 1.5 (3) [")
    assert rows[2][5].strip().startswith("<ins>31.0</ins> ± 1.0 (3) [")
    assert rows[3][4].strip() == "46.4" and "**" not in "".join(rows[7]) and "<ins>" not in "".join(rows[7])


def test_footnotes_are_numbered(frame: pd.DataFrame, text: TableText) -> None:
    found = markdown(build_view(frame, text))
    assert "failed<sup>1</sup>" in found
    assert "\n1. failed: the loss is not finite\n" in found
    assert "\n- Scale tiny: small numbers.\n" in found


def test_special_characters_are_escaped(frame: pd.DataFrame, text: TableText) -> None:
    assert r"Baseline & more\_\[x\] \<b\>\|$" in markdown(build_view(frame, text))
    assert escape("1. a\n2") == r"1\. a 2" or escape("1. a\n2") == r"\1. a 2"
    assert escape("*x*") == r"\*x\*"
