"""A table as a PNG: complete, of a page's width, the same bytes again."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hand_made import CLEAN, DIAL, evaluation, report_table
from PIL import Image

from vislab.report.tables import table_picture
from vislab.report.tables.frames import Evidence, ReportRow, table_frame
from vislab.report.tables.table_layout import STRONG
from vislab.report.tables.table_picture import table_png
from vislab.report.tables.text_sheet import BAD, GOOD, INK, SOFT, Face, Sheet
from vislab.report.tables.views import TableText, View, build_view

MINUS = "\N{MINUS SIGN}"


class Recorded(Sheet):
    """Remembers what is written: (text, face, ink, x, y); rules as their left, right, y."""

    last: Recorded

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.words: list[tuple[str, Face, int, float, float]] = []
        self.lines: list[tuple[float, float, float]] = []
        Recorded.last = self

    def text(self, x: float, y: float, text: str, face: Face, ink: int = INK) -> None:
        self.words.append((text, face, ink, x, y))
        super().text(x, y, text, face, ink)

    def rule(self, left: float, right: float, y: float, thickness: int = 1, ink: int = INK) -> None:
        self.lines.append((left, right, y))
        super().rule(left, right, y, thickness, ink)


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(table_picture, "Sheet", Recorded)
    return Recorded


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def test_equal_views_give_equal_bytes(frame: pd.DataFrame, text: TableText) -> None:
    first, second = (table_png(build_view(frame.copy(), text)) for _ in range(2))
    assert first == second and first[:8] == b"\x89PNG\r\n\x1a\n"


def test_everything_is_written_inside_of_the_sheet(frame: pd.DataFrame, text: TableText, sheet: type[Recorded]) -> None:
    width, height = size(table_png(build_view(frame, text)))
    written = sheet.last.words
    said = " ".join(word for word, *_ in written)
    labels = ("p T3: a title with 100 % & more", "Baseline & more_[x] <b>|$", "Others", "reported", "measured")
    cells = ("44.9", "31.0", " ± 1.0 (3)", "failed", "(control)", "took from elsewhere", "Scale tiny: small numbers.")
    for part in (*labels, *cells):
        assert part in said
    assert all(0 < x < width and 0 < y < height for *_, x, y in written)
    assert "train (min)" not in said


def test_marks_have_their_colours_and_reported_numbers_are_soft(
    frame: pd.DataFrame, text: TableText, sheet: type[Recorded]
) -> None:
    table_png(build_view(frame, text))
    inks = {word: ink for word, _, ink, *_ in sheet.last.words}
    assert inks[" ↑"] == GOOD and inks["44.9"] == SOFT and inks["31.0"] == INK and inks["failed"] == SOFT


def test_worse_is_red_and_numbers_have_minus_signs(text: TableText, sheet: type[Recorded]) -> None:
    known = {
        (0, CLEAN): Evidence((evaluation(0, np.full(5, 0.6)),)),
        (1, CLEAN): Evidence((evaluation(0, np.full(5, 0.4)),)),
    }
    table_png(build_view(table_frame(report_table(datasets=(CLEAN,)), known), text))
    written = {word: ink for word, _, ink, *_ in sheet.last.words}
    assert written[" ↓"] == BAD and f"{MINUS}20.0" in written and f"[{MINUS}20.0, {MINUS}20.0]" in written


def test_best_is_bold_and_second_underlined(frame: pd.DataFrame, text: TableText, sheet: type[Recorded]) -> None:
    plain = size(table_png(build_view(frame, text)))
    rules = len(sheet.last.lines)
    ranked = replace(text, ranks={(1, DIAL, "AP"): 1, (0, DIAL, "AP"): 2})
    table_png(build_view(frame, ranked))
    bold = [word for word, face, *_ in sheet.last.words if face == STRONG]
    assert bold.count("51.7") == 1 and "31.0" not in bold and " ± 1.5 (3)" not in bold
    assert len(sheet.last.lines) == rules + 1
    assert size(table_png(build_view(frame, replace(text, ranks={})))) >= plain


def test_rows_that_have_nothing_in_a_later_part_are_left_out_there(sheet: type[Recorded]) -> None:
    names = ("AP", "IDF1", "MOTA", "IDP", "IDR", "IDs")
    rows = (ReportRow(0, "ours", True, {"AP": 1.0}), ReportRow(1, "theirs", False, {"AP": 2.0}))
    table = report_table(rows=rows, columns=("AP",), static=(), datasets=(CLEAN,), tracking=names[1:], extra=("AP50",))
    known = {(0, CLEAN): Evidence((evaluation(0, [0.123, 0.3], (*names, "AP50")),))}
    frame = table_frame(table, known)
    wide = pd.concat([frame, *(frame[frame["metric"] == "IDF1"].assign(metric=f"more {i}") for i in range(8))])
    table_png(build_view(wide, TableText("t")))
    labels = [word for word, *_ in sheet.last.words if word in ("ours", "theirs")]
    assert labels.count("ours") > 1 and labels.count("theirs") == 1


def one_row(value: float) -> View:
    table = report_table(rows=(ReportRow(0, "a", True),), static=(), columns=("AP",), datasets=(CLEAN,))
    return build_view(table_frame(table, {(0, CLEAN): Evidence((evaluation(0, np.full(3, value)),))}), TableText("t"))


def test_one_row_and_undefined_numbers(sheet: type[Recorded]) -> None:
    table_png(one_row(float("nan")))
    assert "undefined" in [word for word, *_ in sheet.last.words]
    assert size(table_png(one_row(0.5)))[0] == 650


def test_nothing_was_run(text: TableText, sheet: type[Recorded]) -> None:
    reasons = {(row, name): "needs a GPU" for row in (0, 1) for name in (DIAL, CLEAN)}
    table_png(build_view(table_frame(report_table(), {}), replace(text, reasons=reasons)))
    said = [word for word, *_ in sheet.last.words]
    assert said.count("not run") == 12 and "1 needs a GPU" in said


def test_long_and_strange_labels(text: TableText, sheet: type[Recorded]) -> None:
    label = "$x_{1}$ \\frac <&> 漢字\n" + "a_word_without_any_space_" * 6
    table = report_table(rows=(ReportRow(0, label, True),), static=(), columns=("AP",), datasets=())
    width, _ = size(table_png(build_view(table_frame(table, {}), text)))
    assert width <= 1380 and "$x_{1}$ \\frac <&> 漢字" in [word for word, *_ in sheet.last.words]
