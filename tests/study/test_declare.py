"""Papers, tables and rows: what they accept, and what they say about what they do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from vislab.errors import UserError
from vislab.study.declare import Paper, Row, Table, Times, apply_changes, rows_from_numbers


@dataclass(frozen=True)
class Inner:
    points: int = 4
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner | None = Inner()
    steps: int = 100


def table(*rows: Row, **more: Any) -> Table:
    return Table("T1", "caption", ("AP",), rows, ("clean",), **more)


def paper(*tables: Table) -> Paper:
    bases = {"smoke": Outer(steps=1), "tiny": Outer(), "small": Outer(steps=1000), "paper": Outer(steps=9999)}
    return Paper("p", "A paper", bases.__getitem__, tables, static=lambda config: {})


def test_changes_apply_to_the_base_of_the_scale() -> None:
    subject = paper(table(Row(0, "few", {"inner.points": 1}), Row(1, "none", {"inner": None})))
    few, none = subject.tables[0].rows
    assert subject.configuration(subject.tables[0], few, "tiny") == Outer(Inner(1), 100)
    assert subject.configuration(subject.tables[0], none, "paper") == Outer(None, 9999)


def test_mistyped_path_fails_at_declaration_and_names_the_fields() -> None:
    with pytest.raises(UserError, match=r"p T1 row 0 \(few\).*inner.point.*points, rate"):
        paper(table(Row(0, "few", {"inner.point": 1})))


def test_wrong_type_fails_at_declaration() -> None:
    with pytest.raises(UserError, match="row 0.*points.*expected int"):
        paper(table(Row(0, "few", {"inner.points": "many"})))


def test_times_multiplies_what_is_there() -> None:
    changed = apply_changes(Outer(), {"steps": Times(1.7), "inner.rate": Times(0.1)})
    assert changed.steps == 170 and isinstance(changed.steps, int)
    assert changed.inner is not None and changed.inner.rate == pytest.approx(0.05)


def test_times_on_a_path_that_does_not_exist_names_the_fields() -> None:
    with pytest.raises(UserError, match="inner, steps"):
        apply_changes(Outer(), {"step": Times(2)})


def test_changes_apply_in_order() -> None:
    """A slot is filled first, then what is in it is changed."""
    assert apply_changes(Outer(inner=None), {"inner": Inner(), "inner.points": 7}).inner == Inner(7)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((Row(0, "a", {}), Row(0, "b", {})), "twice"),
        ((Row(0, "a", {}, baseline=5),), "baseline"),
        ((Row(0, "a", None),), "changes"),
        ((Row(0, "a", {}, reported={"AR": 1.0}),), "column"),
    ],
)
def test_contradictory_declarations_are_refused(rows: tuple[Row, ...], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        paper(table(*rows))


def test_two_tables_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="twice"):
        paper(table(), table())


def test_lookups_name_what_exists() -> None:
    subject = paper(table(Row(0, "a", {}), Row(3, "b", {})))
    assert subject.table("t1").row(3).label == "b"
    with pytest.raises(UserError, match="no table 'T9'; its tables are T1"):
        subject.table("T9")
    with pytest.raises(UserError, match="no row 1; its rows are 0, 3"):
        subject.table("T1").row(1)


def test_rows_that_run() -> None:
    row = Row(0, "large", {}, unavailable={"tiny": "too large"})
    assert not row.runs_at("tiny") and row.runs_at("paper")
    assert not replace(row, own=False).runs_at("paper")


def test_rows_from_numbers_joins_record_and_changes() -> None:
    numbers = {"own_rows": [1], "rows": [{"name": "x", "AP": 1.5}, {"name": "y", "AP": None}]}
    copied, own = rows_from_numbers(
        numbers, ("AP",), label=lambda r: r["name"], changes={1: {"steps": 2}}, baselines={1: 0}
    )
    assert (copied.label, copied.reported, copied.own, copied.changes) == ("x", {"AP": 1.5}, False, None)
    assert (own.index, own.reported, own.own, own.changes, own.baseline) == (1, {"AP": None}, True, {"steps": 2}, 0)
