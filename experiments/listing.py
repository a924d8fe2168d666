"""What there is to reproduce: every table, its cost at each scale, how far its reports have come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text

from vislab.report.tables.files import read_table, table_path
from vislab.report.tables.frames import COSTS
from vislab.study.declare import SCALES, Paper, Row, Table

EXPLANATION = (
    "Cost is for one seed, one run at a time, on the machine that the scale is meant for: two CPU cores for smoke and "
    "tiny, GPUs for small and paper. Rows of a table that differ at inference only train once, as do rows that tables "
    "share. Status: rows measured so far."
)


def print_list(papers: Sequence[Paper], reports: Path, console: Console) -> None:
    """One line per table."""
    for paper in papers:
        console.print(Text(f"{paper.key}: {paper.title}", style="bold"))
        screen = ScreenTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        screen.add_column("", style="bold")
        screen.add_column("", min_width=24)
        screen.add_column("rows\nown + copied", justify="right", no_wrap=True)
        for scale in SCALES:
            screen.add_column(f"{scale}\nruns, cost", justify="right", no_wrap=True)
        screen.add_column("status")
        for table in paper.tables:
            own = len(table.own_rows())
            costs = [_cost(paper, table, scale) for scale in SCALES]
            rows = f"{own} + {len(table.rows) - own}"
            screen.add_row(table.id, Text(table.caption), rows, *costs, _statuses(paper, table, reports))
        console.print(screen)
    console.print(EXPLANATION, style="dim", highlight=False)


def num_runs(table: Table, scale: str) -> int:
    """Rows that run at the scale, times data sets (the real one alone at paper scale)."""
    return len(_runs(table, scale))


def _runs(table: Table, scale: str) -> list[tuple[Row, str]]:
    """Rows and data sets; at paper scale, what the row is about."""
    rows = [row for row in table.rows if row.runs_at(scale)]
    if scale == "paper":
        return [(row, row.about) for row in rows]
    return [(row, dataset) for row in rows for dataset in table.datasets if table.concerns(row, dataset)]


def num_trainings(paper: Paper, table: Table, scale: str) -> int:
    """Of these runs, those that train: rows that differ at inference only share their training."""
    return len({(paper.configuration(table, row, scale).train_key, dataset) for row, dataset in _runs(table, scale)})


def duration(minutes: float) -> str:
    """A cost at a glance."""
    if minutes < 1.5:
        return f"{60 * minutes:.0f} s"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h"


def status(path: Path) -> str:
    """How much of a table's report is measured."""
    frame = read_table(path)
    if set(frame["status"]) == {"static"}:
        return "static"
    cells = frame[~frame["metric"].isin(COSTS) & ~frame["status"].isin(["static", "reported-only"])]
    rows = cells.groupby(["row", "dataset"])["status"].first()
    failed = (rows == "failed").sum()
    text = f"{(rows == 'measured').sum()}/{len(rows)}"
    return f"{text}, {failed} failed" if failed else text


def _cost(paper: Paper, table: Table, scale: str) -> str:
    runs = num_runs(table, scale)
    return f"{runs}, {duration(num_trainings(paper, table, scale) * paper.minutes[scale])}" if runs else "–"


def _statuses(paper: Paper, table: Table, reports: Path) -> str:
    paths = {scale: table_path(reports, scale, paper.key, table.id) for scale in SCALES}
    return "\n".join(f"{scale} {status(path)}" for scale, path in paths.items() if path.exists()) or "–"
