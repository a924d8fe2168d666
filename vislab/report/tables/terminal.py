"""A table's view for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vislab.report.tables.ranking import BEST, SECOND
from vislab.report.tables.views import BETTER, UNRESOLVED, WORSE, Cell, Section, View

_MARK_STYLE = {BETTER: "bold green", WORSE: "bold red", UNRESOLVED: "dim"}
_RANK_STYLE = {BEST: "bold", SECOND: "underline"}
_SMALLEST_LABEL = 24


def print_view(view: View, console: Console) -> None:
    """Print one table per data set, the interval of each number below it, and the footnotes.

    Where the terminal is too narrow, the columns of a table are split over several, whole metrics together.
    """
    console.print(Text(view.title, style="bold"))
    for section in view.sections:
        for part, columns in enumerate(_parts(section, view, console)):
            console.print(_table(section, view, columns, section.heading if part == 0 else ""))
    notes = [f"{number} {text}" for number, text in enumerate(view.numbered, 1)] + list(view.footnotes)
    for note in notes:
        console.print(Padding(Text(note, style="dim"), (0, 1)))


def _parts(section: Section, view: View, console: Console) -> list[list[int]]:
    """Indices of the columns of each table that fits the console; at least one metric each."""
    parts: list[list[int]] = [[]]
    for _, members in groupby(range(len(view.columns)), key=lambda index: view.columns[index].metric):
        columns = list(members)
        if parts[-1] and _width(_table(section, view, [*parts[-1], *columns], ""), section, console) > console.width:
            parts.append([])
        parts[-1].extend(columns)
    return parts


def _width(table: Table, section: Section, console: Console) -> int:
    """What a table needs if its labels may be folded."""
    longest = max((len(line.label) for line in section.lines), default=0)
    unlimited = console.options.update(width=10_000)
    return console.measure(table, options=unlimited).maximum - max(0, longest - _SMALLEST_LABEL)


def _table(section: Section, view: View, columns: Sequence[int], heading: str) -> Table:
    table = Table(
        title=Text(heading, style="italic") if heading else None, title_justify="left", box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    table.add_column("", justify="right", style="dim")
    table.add_column("", overflow="fold", min_width=_SMALLEST_LABEL)
    for column in (view.columns[index] for index in columns):
        style = "dim" if column.sub == "reported" else ""
        table.add_column(Text(f"{column.group}\n{column.sub}"), justify="right", style=style, no_wrap=True)
    for line in section.lines:
        table.add_row(str(line.index), Text(line.label), *(_cell(line.cells[index]) for index in columns))
    return table


def _cell(cell: Cell) -> Text:
    text = Text().append(cell.value, style=_RANK_STYLE.get(cell.rank, "")).append(cell.rest())
    if cell.note:
        text.append(f" {cell.note}", style="dim")
    if cell.mark:
        text.append(f" {cell.mark}", style=_MARK_STYLE[cell.mark])
    if cell.interval:
        text.append(f"\n{cell.interval}", style="dim")
    return text
