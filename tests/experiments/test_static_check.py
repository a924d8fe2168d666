"""Static cells against the paper."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import pytest
import taformer
from rich.console import Console
from static_check import CheckedCell, checked_cells, half_unit, print_check

from vislab.study.declare import Paper, Row, Table


@dataclass(frozen=True)
class Model:
    params: float = 50.0


def paper(measured: float) -> Paper:
    rows = (
        Row(0, "printed", {}, {"params_M": 52.2}),
        Row(1, "not printed", {}, {"params_M": None}),
        Row(2, "not built", None, {"params_M": 37.5}, own=False),
    )
    table = Table("T7", "caption", ("params_M",), rows, ("clean",), static=("params_M",))
    return Paper("p", "title", lambda scale: Model(), (table,), static=lambda config: {"params_M": measured})


@pytest.mark.parametrize(("printed", "expected"), [(52.2, 0.05), (220.0, 0.05), (52, 0.5), (0.25, 0.005)])
def test_half_unit_of_the_last_digit(printed: float, expected: float) -> None:
    assert half_unit(printed) == pytest.approx(expected)


@pytest.mark.parametrize(("measured", "agrees"), [(52.25, True), (52.15, True), (52.2501, False), (52.149, False)])
def test_agreement_is_rounding(measured: float, agrees: bool) -> None:
    assert CheckedCell("T7", 0, "", "params_M", 52.2, measured).agrees is agrees


def test_only_cells_that_both_have_are_compared() -> None:
    subject = paper(52.21)
    assert [cell.row for cell in checked_cells(subject, subject.tables)] == [0]


@pytest.mark.parametrize(("measured", "code", "word"), [(52.21, 0, "agrees"), (53.0, 1, "differs")])
def test_exit_code(measured: float, code: int, word: str) -> None:
    screen = io.StringIO()
    subject = paper(measured)
    assert print_check(subject, subject.tables, Console(file=screen, width=120)) == code
    assert word in screen.getvalue()


def test_a_disputed_cell_differs_without_an_error() -> None:
    screen = io.StringIO()
    subject = paper(53.0)
    table = subject.tables[0]
    rows = (replace(table.rows[0], disputed={"params_M": "a slip of the pen"}), *table.rows[1:])
    subject = replace(subject, tables=(replace(table, rows=rows),))
    assert print_check(subject, subject.tables, Console(file=screen, width=120)) == 0
    assert "differs, as known" in screen.getvalue() and "a slip of the pen" in screen.getvalue()


def test_the_papers_counts_are_met() -> None:
    """SeqFormer and TAFormer with every backbone, and every K_inter, within the rounding of what is printed."""
    cells = list(checked_cells(taformer.PAPER, (taformer.T1, taformer.T2, taformer.T7)))
    assert {cell.reported for cell in cells} == {49.3, 52.2, 68.4, 71.3, 220.0, 222.9, 50.4, 51.0, 51.6}
    assert all(cell.agrees for cell in cells)
