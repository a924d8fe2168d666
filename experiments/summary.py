"""All papers on one page: every table, every own row, its state, and how far the tables agree with the papers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from status_table import NAMES

from vislab.records import write_text
from vislab.report.tables import agreement
from vislab.report.tables.files import read_table, table_path
from vislab.report.tables.frames import COSTS, compared_metric, difference_of
from vislab.report.tables.html_page import html_page
from vislab.report.tables.markdown import markdown
from vislab.report.tables.views import NOTHING, Cell, Column, Line, Section, TableText, View, build_view
from vislab.study.declare import Paper, Row, Table

_AGREEMENT = (
    Column("rows", "rows", ""),
    Column("tau", "Kendall's tau", ""),
    Column("sign", "paper's sign", ""),
    Column("resolved", "of these resolved", ""),
    Column("opposite", "resolved against it", ""),
    Column("visible", "would be seen", ""),
)
_ROWS = (
    Column("dataset", "data set", ""),
    Column("state", "state", ""),
    Column("metric", "metric", ""),
    Column("value", "metric", "reported"),
    Column("value", "metric", "measured"),
    Column("change", "Δ to its baseline", "reported"),
    Column("change", "Δ to its baseline", "measured"),
)
_EXPLAINED = (
    "Rows: those that the paper reports and vislab measured. Kendall's tau compares their order, from -1 (reversed) to "
    "1 (the same), with a 95 % bootstrap interval over videos and seeds.",
    "Paper's sign: differences to a baseline row with the sign that the paper reports, of those that are compared; "
    "resolved are those whose paired 95 % interval leaves out zero.",
    "Would be seen: the difference, in the metric's unit, that would be resolved in 4 of 5 repetitions (median).",
)


def write_summary(papers: Sequence[Paper], scale: str, reports: Path) -> list[Path]:
    """Write reports/SCALE/summary.md and .html from the tables that are there. Returns their paths."""
    views = [agreement_view(papers, scale, reports), rows_view(papers, scale, reports)]
    contents = {"md": "\n".join(map(markdown, views)), "html": html_page(*views)}
    paths = []
    for suffix, content in contents.items():
        path = reports / scale / f"summary.{suffix}"
        write_text(path, content)
        paths.append(path)
    return paths


def agreement_view(papers: Sequence[Paper], scale: str, reports: Path) -> View:
    """One line per table, data set and compared metric."""
    sections = []
    for paper in papers:
        frame = agreement.read(reports / scale / paper.key)
        lines = [
            Line(index, f"{each.table}, {each.dataset}, {each.metric}", tuple(map(Cell, _agreement_cells(each))))
            for table in paper.tables
            for index, each in enumerate(frame[frame["table"] == table.id].itertuples())
        ]
        if lines:
            sections.append(Section(NAMES[paper.key], tuple(lines)))
    notes = _EXPLAINED if sections else ("No table at this scale has two rows to compare with the paper's.",)
    return View(f"Scale {scale}: do the tables come out as the papers'?", _AGREEMENT, tuple(sections), notes, ())


def _agreement_cells(each) -> tuple[str, ...]:  # type: ignore[no-untyped-def]  # a named tuple of pandas
    interval = "" if math.isnan(each.tau_low) else f" [{each.tau_low:.2f}, {each.tau_high:.2f}]"
    return (
        str(each.rows),
        NOTHING if math.isnan(each.tau) else f"{each.tau:.2f}{interval}",
        f"{each.same_sign} of {each.compared}" if each.compared else NOTHING,
        str(each.resolved) if each.compared else NOTHING,
        str(each.opposite) if each.compared else NOTHING,
        NOTHING if math.isnan(each.visible) else f"{each.visible:.1f}",
    )


def rows_view(papers: Sequence[Paper], scale: str, reports: Path) -> View:
    """Every own row of every table with what is measured, by data set."""
    sections = [
        Section(f"{NAMES[paper.key]} {table.id}: {table.caption}", tuple(_lines(paper, table, scale, reports)))
        for paper in papers
        for table in paper.tables
        if not table.all_static or scale == "paper"
    ]
    return View(f"Scale {scale}: every row", _ROWS, tuple(sections), (), ())


def _lines(paper: Paper, table: Table, scale: str, reports: Path) -> Iterator[Line]:
    path = table_path(reports, scale, paper.key, table.id)
    frame = read_table(path) if path.exists() else None
    shown = {} if frame is None else _cells_of(frame)
    for row in table.own_rows():
        for dataset in _datasets(table, row, frame):
            found = _found(row, dataset, scale, frame, shown.get((row.index, dataset), {}))
            yield Line(row.index, row.label, (Cell(dataset or NOTHING), *found))


def _datasets(table: Table, row: Row, frame: pd.DataFrame | None) -> list[str]:
    """The declared ones, and what else the report holds."""
    measured = [] if frame is None else [name for name in frame["dataset"].unique() if name]
    return [name for name in dict.fromkeys([*table.datasets, *measured]) if table.concerns(row, name)] or [""]


def _found(
    row: Row, dataset: str, scale: str, frame: pd.DataFrame | None, shown: Mapping[tuple[str, str], Cell]
) -> tuple[Cell, ...]:
    """State, metric, and its cells. shown: the row's cells in the table, by metric and "reported" or "measured"."""
    nothing = (Cell(NOTHING),) * (len(_ROWS) - 2)
    if not row.runs_at(scale):
        return (Cell(f"not run: {row.unavailable[scale]}"), *nothing)
    if frame is None:
        return (Cell("not run"), *nothing)
    here = frame[(frame["row"] == row.index) & frame["dataset"].isin(["", dataset]) & ~frame["metric"].isin(COSTS)]
    states = [state for state in ("measured", "failed", "static") if (here["status"] == state).any()]
    if not states or states[0] != "measured":
        return (Cell(states[0] if states else "not run"), *nothing)
    measured = here[here["status"] == "measured"]
    seeds, metric = int(measured["n"].max()), _headline(measured)
    values = [
        shown.get((name, sub), shown.get((name, ""), Cell(NOTHING)) if sub == "measured" else Cell(NOTHING))
        for name in (metric, difference_of(metric))
        for sub in ("reported", "measured")
    ]
    return (Cell(f"measured, {seeds} seed{'s' * (seeds > 1)}"), Cell(metric), *values)


def _headline(measured: pd.DataFrame) -> str:
    """The first metric that the table compares with a baseline; without any, its first one."""
    names = [name for name in measured["metric"].unique() if compared_metric(name) is None]
    return next((name for name in names if difference_of(name) in set(measured["metric"])), names[0])


def _cells_of(frame: pd.DataFrame) -> dict[tuple[int, str], dict[tuple[str, str], Cell]]:
    """(row, data set) -> (metric, "reported", "measured" or "") -> cell, as the table itself shows it."""
    view = build_view(frame, TableText(""))
    datasets = [name for name in frame["dataset"].unique() if name] or [""]
    return {
        (line.index, dataset): {
            (column.metric, column.sub): replace(cell, note=0)
            for column, cell in zip(view.columns, line.cells, strict=True)
        }
        for dataset, section in zip(datasets, view.sections, strict=True)
        for line in section.lines
    }
