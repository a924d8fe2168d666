"""A table's view as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from vislab.report.tables.ranking import BEST, SECOND
from vislab.report.tables.views import Cell, Column, View

_RANKED = {BEST: "**{}**", SECOND: "<ins>{}</ins>"}  # GitHub drops <u>


def markdown(view: View) -> str:
    """One table per data set, footnotes below. Ends with a newline."""
    parts = [f"### {escape(view.title)}", ""]
    for section in view.sections:
        if section.heading:
            parts += [f"**{escape(section.heading)}**", ""]
        parts.append(_line(["", "", *(_head(column) for column in view.columns)]))
        parts.append(_line(["--:", ":--", *("--:" for _ in view.columns)]))
        for line in section.lines:
            parts.append(_line([str(line.index), escape(line.label), *(_cell(cell) for cell in line.cells)]))
        parts.append("")
    parts += [f"{number}. {escape(text)}" for number, text in enumerate(view.numbered, 1)]
    parts += [""] * bool(view.numbered)
    parts += [f"- {escape(text)}" for text in view.footnotes]
    return "\n".join(parts).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, also inside a table's cell."""
    text = re.sub(r"([\\`*_|<>\[\]#~])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^([-+]|\d+\.)(?=\s)", r"\\\1", text)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(column: Column) -> str:
    return escape(f"{column.group} {column.sub}".strip())


def _cell(cell: Cell) -> str:
    note = f"<sup>{cell.note}</sup>" if cell.note else ""
    head = _RANKED.get(cell.rank, "{}").format(cell.value) + cell.rest()
    return " ".join(part for part in (f"{head}{note}", cell.interval, cell.mark) if part)
