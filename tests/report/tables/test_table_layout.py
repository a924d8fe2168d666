"""Where columns stand: nothing overlaps, nothing is cut off, metrics stay whole."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from hand_made import CLEAN, evaluation, report_table

from vislab.report.tables.frames import TRACKING, Evidence, ReportRow, compared_metric, table_frame
from vislab.report.tables.table_layout import BODY, MARGIN, SMALL, Layout, words
from vislab.report.tables.text_sheet import text_width
from vislab.report.tables.views import TableText, View, build_view

PAGE, COLUMN = 1380, 650  # 6.9 and 3.25 inches at 200 pixels each


def wide_view(num_rows: int = 3, label: str = "row") -> View:
    names = ("AP", "AP50", *TRACKING["mot"], *TRACKING["hota"])
    rows = tuple(ReportRow(i, f"{label} {i}", True, {"AP": 40.0}, baseline=0 if i else None) for i in range(num_rows))
    table = report_table(rows=rows, datasets=(CLEAN,), static=(), columns=("AP", "AP50"), tracking=names[2:])
    known = {(i, CLEAN): Evidence((evaluation(0, [0.1 * i, 0.3, 0.5], names),)) for i in range(num_rows)}
    return build_view(table_frame(table, known), TableText("t"))


def test_every_column_but_costs_stands_in_one_part(frame: pd.DataFrame, text: TableText) -> None:
    view = build_view(frame, text)
    placed = [index for part in Layout(view).parts for group in part for index in group.columns]
    assert placed == list(range(8))  # params, AP, its difference, AP50: reported and measured


def test_cells_fit_between_their_neighbours() -> None:
    view = wide_view()
    for part in Layout(view).parts:
        edge = 0
        for group in part:
            assert group.left > edge
            edge = group.left
            for index, right in zip(group.columns, group.rights, strict=True):
                for line in view.sections[0].lines:
                    cell = line.cells[index]
                    needed = max(sum(text_width(t, f) for t, f, _ in words(cell)), text_width(cell.interval, SMALL))
                    assert right - needed >= edge
                edge = right


def test_parts_fit_the_page_and_keep_a_metric_with_its_difference() -> None:
    view = wide_view()
    layout = Layout(view)
    assert len(layout.parts) > 1 and layout.width <= PAGE
    for part in layout.parts:
        assert part[-1].right + MARGIN <= PAGE
        assert compared_metric(view.columns[part[0].columns[0]].metric) is None


def test_small_tables_are_a_column_wide() -> None:
    rows = (ReportRow(0, "a", True, {"AP": 40.0}),)
    view = build_view(table_frame(report_table(rows=rows, columns=("AP",), static=(), datasets=()), {}), TableText("t"))
    assert Layout(view).width == COLUMN


def test_labels_are_narrowed_where_that_saves_a_part() -> None:
    def layouts(label: str) -> Layout:
        return Layout(wide_view(label=label))

    short, long = layouts("a"), layouts("a very long name of a method with many words that go on and on")
    assert long.label_width <= 520 and len(long.parts) <= len(short.parts) + 1
    assert short.label_width == text_width("a 0", BODY) or short.label_width > 0


@pytest.mark.parametrize("drop", ["lines", "columns", "sections"])
def test_nothing_to_show(drop: str) -> None:
    view = wide_view(1)
    (section,) = view.sections
    bare = {
        "lines": replace(view, sections=(replace(section, lines=()),)),
        "columns": replace(view, columns=(), sections=(replace(section, lines=()),)),
        "sections": replace(view, sections=()),
    }[drop]
    assert Layout(bare).width >= COLUMN
