"""Terminal views: everything is there, at any width."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest
from hand_made import DIAL
from rich.console import Console

from vislab.report.tables.terminal import print_view
from vislab.report.tables.views import TableText, build_view


def printed(frame: pd.DataFrame, text: TableText, width: int) -> str:
    screen = io.StringIO()
    print_view(build_view(frame, text), Console(file=screen, width=width))
    return screen.getvalue()


@pytest.mark.parametrize("width", [70, 80, 100, 200])
def test_nothing_is_cut_off(frame: pd.DataFrame, text: TableText, width: int) -> None:
    found = printed(frame, text, width)
    assert max(map(len, found.splitlines())) <= width
    assert "…" not in found
    for part in ("31.0 ± 1.0 (3)", "+20.7", "failed 1", "not resolved" if width > 100 else "resolved", "control"):
        assert part in found


def test_narrow_terminals_get_several_tables(frame: pd.DataFrame, text: TableText) -> None:
    narrow, wide = printed(frame, text, 70), printed(frame, text, 200)
    assert narrow.count("Others") > wide.count("Others") == 2


def test_square_brackets_in_labels_are_no_markup(frame: pd.DataFrame, text: TableText) -> None:
    assert "more_[x] <b>|$" in printed(frame, text, 200)


@pytest.mark.parametrize("name", ["[red]set", "[/]"])
def test_square_brackets_in_titles_are_no_markup(frame: pd.DataFrame, text: TableText, name: str) -> None:
    renamed = frame.assign(dataset=name)
    found = printed(renamed, replace(text, title=f"{name} table"), 200)
    assert f"{name} table" in found and found.count(name) >= 2


def test_best_is_bold_and_second_underlined(frame: pd.DataFrame, text: TableText) -> None:
    screen = io.StringIO()
    ranked = build_view(frame, replace(text, ranks={(1, DIAL, "AP"): 1, (0, DIAL, "AP"): 2}))
    print_view(ranked, Console(file=screen, width=200, force_terminal=True, color_system="standard"))
    found = screen.getvalue()
    assert found.count("\x1b[1m51.7\x1b[0m ± 1.5") == found.count("\x1b[4m31.0\x1b[0m ± 1.0") == 1
