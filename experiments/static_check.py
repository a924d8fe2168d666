"""Static cells against the paper: do numbers computed here agree with the printed ones to their last digit?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as ScreenTable

from vislab.study.declare import Paper, Table


@dataclass(frozen=True)
class CheckedCell:
    table: str
    row: int
    label: str
    metric: str
    reported: float
    measured: float
    disputed: str = ""

    @property
    def agrees(self) -> bool:
        """Within half a unit of the printed number's last digit."""
        return abs(self.measured - self.reported) <= half_unit(self.reported) + 1e-9

    @property
    def verdict(self) -> str:
        if self.agrees:
            return "[green]agrees[/]"
        return "differs, as known" if self.disputed else "[bold red]differs[/]"


def half_unit(printed: float) -> float:
    """Half a unit of the last digit of a number as printed: 0.05 for 52.2, 0.5 for 52."""
    digits = len(str(printed).partition(".")[2])
    return 0.5 * 10.0**-digits


def checked_cells(paper: Paper, tables: Sequence[Table]) -> Iterator[CheckedCell]:
    """Every static cell that the paper prints and vislab computes, at paper scale."""
    for table in tables:
        for row in table.rows:
            printed = {name: row.reported.get(name) for name in table.static}
            if row.changes is None or all(value is None for value in printed.values()):
                continue
            values = paper.static_values(table, row, "paper")
            for name, value in printed.items():
                if value is not None and name in values:
                    disputed = row.disputed.get(name, "")
                    yield CheckedCell(table.id, row.index, row.label, name, value, values[name], disputed)


def print_check(paper: Paper, tables: Sequence[Table], console: Console) -> int:
    """Print every comparison. Returns 1 if any disagrees that is not disputed, else 0."""
    cells = list(checked_cells(paper, tables))
    screen = ScreenTable(title=f"{paper.key}: static cells against the paper", title_justify="left", box=None)
    for name in ("table", "row", "", "metric", "paper", "here", "difference", ""):
        screen.add_column(name, justify="right" if name in ("row", "paper", "here", "difference") else "left")
    for cell in cells:
        difference = f"{cell.measured - cell.reported:+.3f}"
        numbers = (str(cell.reported), f"{cell.measured:.3f}", difference)
        screen.add_row(cell.table, str(cell.row), cell.label, cell.metric, *numbers, cell.verdict)
    console.print(screen)
    differing = [cell for cell in cells if not cell.agrees]
    agreeing = f"{len(cells) - len(differing)} of {len(cells)} cells agree to the last printed digit"
    console.print(agreeing, highlight=False)
    for cell in differing:
        if cell.disputed:
            console.print(f"{cell.table} row {cell.row}, {cell.metric}: {cell.disputed}", highlight=False)
    return 1 if any(not cell.disputed for cell in differing) else 0
