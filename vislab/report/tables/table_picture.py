"""A table as a PNG, for slides, issues and pages that show no LaTeX; between a column and a page of a paper wide.

Text keeps its size. Columns that do not fit a page go on below, whole metrics together, for rows that have something
there. What a run cost is left out, as in LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from vislab.report.tables.ranking import SECOND
from vislab.report.tables.table_layout import BODY, MARGIN, SMALL, STRONG, Group, Layout, words
from vislab.report.tables.text_sheet import INK, SOFT, Face, Sheet, text_width, wrapped
from vislab.report.tables.views import NOTHING, Cell, Column, Line, View

__all__ = ["table_png"]

_TITLE, _NOTE = Face(20, bold=True), Face(15)
_PAD = 6  # pixels above and below what a rule separates


def table_png(view: View) -> bytes:
    """The file's content, 200 pixels an inch; equal views give equal bytes."""
    return _Drawing(_printed(view)).png()


class _Drawing:
    """One view on one sheet, from the top down. y: where the next thing begins."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.layout = Layout(view)
        self.sheet = Sheet(self.layout.width)
        self.y = MARGIN

    def png(self) -> bytes:
        self._paragraph(self.view.title, _TITLE, INK)
        for number, part in enumerate(self.layout.parts):
            self.y += 2 * _PAD
            self._part(part, every_row=number == 0)
        self.y += 2 * _PAD
        numbered = [f"{number}  {text}" for number, text in enumerate(self.view.numbered, 1)]
        for note in [*numbered, *self.view.footnotes]:
            self._paragraph(note, _NOTE, SOFT)
            self.y += _PAD // 2
        return self.sheet.png(self.y + MARGIN)

    def _part(self, part: Sequence[Group], every_row: bool) -> None:
        """Columns side by side; every_row: also those without a value in any of them."""
        self._rule(part[-1].right, 2)
        self._header(part)
        for section in self.view.sections:
            self._rule(part[-1].right)
            if section.heading:
                self._paragraph(section.heading, STRONG, INK)
                self.y += _PAD // 2
            for line in section.lines:
                if every_row or any(line.cells[index].value != NOTHING for group in part for index in group.columns):
                    self._line(line, part)
        self._rule(part[-1].right, 2)

    def _rule(self, right: int, thickness: int = 1) -> None:
        self.y += _PAD
        self.sheet.rule(MARGIN, right, self.y, thickness)
        self.y += _PAD + thickness

    def _paragraph(self, text: str, face: Face, ink: int) -> None:
        for line in wrapped(text, face, self.sheet.width - 2 * MARGIN):
            self.sheet.text(MARGIN, self.y, line, face, ink)
            self.y += face.line_height

    def _header(self, part: Sequence[Group]) -> None:
        """Metrics over "reported" and "measured", with a rule under each metric that has both; all end on one line."""
        headings = [wrapped(self._column(group).group, BODY, group.right - group.left) for group in part]
        below = self.y + max(map(len, headings)) * BODY.line_height
        for group, heading in zip(part, headings, strict=True):
            for number, text in enumerate(reversed(heading), 1):
                spare = group.right - group.left - text_width(text, BODY)
                shift = spare // 2 if len(group.columns) > 1 else spare
                self.sheet.text(group.left + shift, below - number * BODY.line_height, text, BODY)
            if len(group.columns) > 1:
                self.sheet.rule(group.left, group.right, below + 1)
        self.y = below
        if any(self._column(group).sub for group in part):
            self._subheadings(part)

    def _subheadings(self, part: Sequence[Group]) -> None:
        self.y += _PAD
        for group in part:
            for index, right in zip(group.columns, group.rights, strict=True):
                text = self.view.columns[index].sub
                self.sheet.text(right - text_width(text, SMALL), self.y, text, SMALL, SOFT)
        self.y += SMALL.line_height

    def _line(self, line: Line, part: Sequence[Group]) -> None:
        """A row: its label over as many lines as it takes, numbers at the height of the first, intervals below them."""
        label = wrapped(line.label, BODY, self.layout.label_width)
        self.sheet.text(MARGIN, self.y, str(line.index), BODY, SOFT)
        for number, text in enumerate(label):
            self.sheet.text(self.layout.label, self.y + number * BODY.line_height, text, BODY)
        depth = BODY.line_height
        for group in part:
            for index, right in zip(group.columns, group.rights, strict=True):
                cell = line.cells[index]
                self._cell(cell, right, self.view.columns[index].sub == "reported")
                depth = max(depth, BODY.line_height + (SMALL.line_height if cell.interval else 0))
        self.y += max(depth, len(label) * BODY.line_height) + _PAD

    def _cell(self, cell: Cell, right: int, reported: bool) -> None:
        ink = SOFT if reported or cell.note or cell.value == NOTHING else INK
        x = right - sum(text_width(text, face) for text, face, _ in words(cell))
        if cell.rank == SECOND:
            self.sheet.rule(x, x + text_width(cell.value, BODY), self.y + BODY.size + 3)
        for text, face, own_ink in words(cell):
            self.sheet.text(x, self.y, text, face, ink if own_ink is None else own_ink)
            x += text_width(text, face)
        x = right - text_width(cell.interval, SMALL)
        self.sheet.text(x, self.y + BODY.line_height, cell.interval, SMALL, SOFT)

    def _column(self, group: Group) -> Column:
        return self.view.columns[group.columns[0]]


def _printed(view: View) -> View:
    """The view with texts as they are printed: in one line, with minus signs instead of hyphens."""
    sections = [
        replace(
            section,
            heading=_flat(section.heading),
            lines=tuple(
                replace(line, label=_flat(line.label), cells=tuple(map(_printed_cell, line.cells)))
                for line in section.lines
            ),
        )
        for section in view.sections
    ]
    return replace(
        view,
        title=_flat(view.title),
        columns=tuple(replace(column, group=_flat(column.group)) for column in view.columns),
        sections=tuple(sections),
        footnotes=tuple(map(_flat, view.footnotes)),
        numbered=tuple(map(_flat, view.numbered)),
    )


def _printed_cell(cell: Cell) -> Cell:
    return replace(cell, value=_flat(cell.value), interval=_flat(cell.interval))


def _flat(text: str) -> str:
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", " ".join(text.split()))
