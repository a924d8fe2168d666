"""Where the columns of a table's view stand on a sheet: widths from the words in them, parts that fit a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from vislab.report.figures.style import COLUMN_WIDTH, PAGE_WIDTH
from vislab.report.tables.frames import COSTS, compared_metric
from vislab.report.tables.ranking import BEST
from vislab.report.tables.text_sheet import BAD, DPI, GOOD, SOFT, Face, text_width
from vislab.report.tables.views import BETTER, UNRESOLVED, WORSE, Cell, Line, View

__all__ = ["BODY", "MARGIN", "SMALL", "STRONG", "Group", "Layout", "words"]

BODY, STRONG, SMALL = Face(17), Face(17, bold=True), Face(14)
MARGIN = 16  # pixels around the sheet
_GAP, _INNER_GAP = 20, 12  # pixels between metrics, between the two columns of one
_LABELS = (520, 400, 300, 220)  # pixels: how wide the column of labels may be; narrower where that saves a part
_HEADING = 110  # pixels: a heading that narrow columns need not break
_PAGE, _COLUMN = round(PAGE_WIDTH * DPI), round(COLUMN_WIDTH * DPI)
_MARK_INK = {BETTER: GOOD, WORSE: BAD, UNRESOLVED: SOFT}

Word = tuple[str, Face, int | None]  # text, face, and ink, None for the column's own
Metric = tuple[int, ...]  # its columns


@dataclass(frozen=True)
class Group:
    """The columns of a metric: their indices, where the first one begins, and where each ends."""

    columns: tuple[int, ...]
    left: int
    rights: tuple[int, ...]

    @property
    def right(self) -> int:
        return self.rights[-1]


class Layout:
    """parts: groups that stand side by side, one part below the other. label: where labels begin; label_width: where
    they are broken. width: of the sheet, that of the table; at least a column's, at most a page's if each metric fits.
    """

    def __init__(self, view: View) -> None:
        lines = [line for section in view.sections for line in section.lines]
        shown = [index for index, column in enumerate(view.columns) if column.metric not in COSTS]
        metrics = [tuple(members) for _, members in groupby(shown, key=lambda index: view.columns[index].metric)]
        self._widths = _widths(view, metrics, lines)
        self.label = MARGIN + max((text_width(str(line.index), BODY) for line in lines), default=0) + _GAP // 2
        blocks = _with_differences(view, metrics)
        longest = max((text_width(line.label, BODY) for line in lines), default=0)
        narrowed = [list(self._split(blocks, min(longest, limit))) for limit in _LABELS]
        self.parts = min(narrowed, key=len)
        self.label_width = min(longest, _LABELS[narrowed.index(self.parts)])
        needed = max((part[-1].right for part in self.parts), default=self.label + self.label_width) + MARGIN
        self.width = max(needed, _COLUMN)

    def _split(self, blocks: Iterable[Sequence[Metric]], label_width: int) -> Iterator[list[Group]]:
        """The parts, with the metrics of a block together; at least one block in each."""
        part: list[Metric] = []
        for block in blocks:
            if part and self._placed([*part, *block], label_width)[-1].right + MARGIN > _PAGE:
                yield self._placed(part, label_width)
                part = []
            part += block
        if part:
            yield self._placed(part, label_width)

    def _placed(self, part: Sequence[Metric], label_width: int) -> list[Group]:
        groups: list[Group] = []
        x = self.label + label_width
        for metric in part:
            left = x = x + _GAP
            rights: list[int] = []
            for index in metric:
                x += self._widths[index] + (_INNER_GAP if rights else 0)
                rights.append(x)
            groups.append(Group(metric, left, tuple(rights)))
        return groups


def words(cell: Cell) -> list[Word]:
    """The first line of a cell, from left to right."""
    found: list[Word] = [(cell.value, STRONG if cell.rank == BEST else BODY, None), (cell.rest(), BODY, None)]
    if cell.note:
        found.append((f" {cell.note}", SMALL, SOFT))
    if cell.mark:
        found.append((f" {cell.mark}", STRONG, _MARK_INK[cell.mark]))
    return [word for word in found if word[0]]


def _with_differences(view: View, metrics: Iterable[Metric]) -> list[list[Metric]]:
    """Each metric in a block with its difference to the baseline, if that is shown."""
    blocks: list[list[Metric]] = []
    for metric in metrics:
        if blocks and compared_metric(view.columns[metric[0]].metric) is not None:
            blocks[-1].append(metric)
        else:
            blocks.append([metric])
    return blocks


def _widths(view: View, metrics: Iterable[Metric], lines: Sequence[Line]) -> dict[int, int]:
    """Of every column, such that its cells fit, and the heading of its metric in lines of whole words."""
    widths = {}
    for metric in metrics:
        for index in metric:
            inside = [_cell_width(line.cells[index]) for line in lines]
            widths[index] = max([text_width(view.columns[index].sub, SMALL), *inside])
        heading = view.columns[metric[0]].group
        longest = max((text_width(word, BODY) for word in heading.split()), default=0)
        wanted = max(longest, min(text_width(heading, BODY), _HEADING)) - _INNER_GAP * (len(metric) - 1)
        lacking = max(0, wanted - sum(widths[index] for index in metric))
        for index in metric:
            widths[index] += -(-lacking // len(metric))
    return widths


def _cell_width(cell: Cell) -> int:
    return max(sum(text_width(text, face) for text, face, _ in words(cell)), text_width(cell.interval, SMALL))
