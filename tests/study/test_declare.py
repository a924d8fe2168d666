"""Papers, tables and rows: what they accept, and what they say about what they do not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from vislab.errors import UserError
from vislab.study.declare import AtScale, Paper, Row, Table, Times, apply_changes, rows_from_numbers


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


def test_rows_about_one_of_the_paper_s_data_sets() -> None:
    """They run on what stands in for it, and on data of the user's own, which may be anything."""
    first, second, both = Row(0, "a", {}, about="A"), Row(1, "b", {}, about="B"), Row(2, "c", {})
    subject = table(first, second, both, stands_for={"clean": "A", "crowds": "B"})
    concerned = {name: [subject.concerns(row, name) for row in subject.rows] for name in ("clean", "crowds", "A", "B")}
    assert concerned == {"clean": [True, False, True], "crowds": [False, True, True]} | {
        "A": [True, False, True], "B": [False, True, True]
    }  # fmt: skip
    assert all(subject.concerns(row, "/my/videos") for row in subject.rows)
    with pytest.raises(AssertionError, match="nothing stands for it"):
        paper(table(first))


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


def test_a_change_may_depend_on_the_scale() -> None:
    def few(scale: str) -> int:
        return 2 if scale == "tiny" else 8

    subject = paper(table(Row(0, "few", {"inner.points": AtScale(few)})))
    row = subject.tables[0].rows[0]
    points = [subject.configuration(subject.tables[0], row, scale).inner.points for scale in ("tiny", "paper")]
    assert points == [2, 8]
    kept = {"steps": AtScale(lambda scale: lambda held: held)}
    assert apply_changes(Outer(steps=7), kept, "tiny").steps == 7


def test_a_table_may_have_a_base_and_static_numbers_of_its_own() -> None:
    def base(scale: str) -> Outer:
        return Outer(steps=5)

    own = table(
        Row(3, "few", {"inner.points": 1}, {"AP": None}),
        base=base,
        static=("AP",),
        measure=lambda row, config: {"AP": row.index + config.steps},
    )
    subject = paper(own)
    assert subject.configuration(own, own.rows[0], "tiny") == Outer(Inner(1), 5)
    assert subject.static_values(own, own.rows[0], "paper") == {"AP": 8}
    assert own.all_static and not own.published  # it prints no number of the paper's
    plain = table(Row(0, "a", {}))
    assert (
        not plain.all_static and not plain.published and paper(plain).static_values(plain, plain.rows[0], "tiny") == {}
    )


NUMBERS = {
    "own_rows": [0],
    "rows": [{"name": "ours", "a_AP": 44.4, "b_AP": None, "FPS": 9.5}, {"name": "theirs", "a_AP": 1.0, "FPS": None}],
}


def test_numbers_on_several_data_sets() -> None:
    rows = rows_from_numbers(
        NUMBERS, ("AP", "FPS"), label=lambda r: r["name"], changes={0: {}}, prefixes={"set A": "a_", "set B": "b_"}
    )
    assert rows[0].reported == rows[0].reported_on["set A"] == {"AP": 44.4, "FPS": 9.5}
    assert rows[0].reported_on["set B"] == {"AP": None, "FPS": 9.5}
    assert rows[1].reported_on["set B"] == {"AP": None, "FPS": None}
    with pytest.raises(KeyError):
        rows_from_numbers(NUMBERS, ("AP",), label=lambda r: r["name"], changes={})


def test_only_static_columns_are_disputed() -> None:
    with pytest.raises(AssertionError, match="only static columns"):
        paper(table(Row(0, "a", {}, disputed={"AP": "a slip"})))
