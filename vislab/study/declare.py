"""A paper's tables as data: Paper, Table, Row.

The base configuration of a scale plus a row's changes is a run. Everything is checked when the declaration is imported,
so that a mistyped path fails there and names the fields that exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vislab.config import with_changes
from vislab.errors import UserError

SCALES = ("smoke", "tiny", "small", "paper")

Config = TypeVar("Config")


@dataclass(frozen=True)
class Times:
    """A change relative to what the base holds there: multiplies it (an integer stays an integer, None stays None)."""

    factor: float

    def applied_to(self, value: int | float | None) -> int | float | None:
        if value is None:
            return None
        product = value * self.factor
        return round(product) if isinstance(value, int) else product


@dataclass(frozen=True)
class AtScale:
    """A change whose value depends on the scale: what the function returns for it."""

    value: Callable[[str], Any]

    @classmethod
    def of(cls, **values: Any) -> AtScale:
        """A change at each scale that is named, and none at the others."""
        return cls(lambda scale: values.get(scale, _unchanged))


def _unchanged(held: Any) -> Any:
    return held


@dataclass(frozen=True)
class Row:
    """One line of a table.

    index: the row's place in the paper's table. changes: dotted path -> value against the scale's base; None for a
    method that is not built here. reported: column -> the paper's number, None where it prints none.
    own: the paper trained this row itself, so it is run here; other rows only show what was reported.
    baseline: index of the row that this one is compared with. unavailable: scale -> why the row cannot be run there.
    reported_on: the paper's data set -> what it reports there, in tables with `stands_for`. fresh: texts; parameters
    whose names contain one of them do not start from the pre-trained weights. disputed: static column -> why the
    paper's number cannot be had from the paper's own description. about: the paper's data set that the row is about,
    in tables with `stands_for` whose rows are about different ones; it runs on what stands in for that one.
    pretraining: what the row starts from, where that is not what the paper's rows start from.
    """

    index: int
    label: str
    changes: Mapping[str, Any] | None = None
    reported: Mapping[str, float | None] = field(default_factory=dict)
    own: bool = True
    baseline: int | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    reported_on: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    disputed: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    pretraining: Pretraining | None = None

    def runs_at(self, scale: str) -> bool:
        return self.own and scale not in self.unavailable


@dataclass(frozen=True)
class Reading:
    """What fills a column: a metric of the row's evaluation, or of another one of the same training.

    changes: of the evaluation, on top of the row's own.
    """

    metric: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table: what it reports, in which columns, on which data.

    columns: the metrics, in the paper's order. static: those that need no training. datasets: the data sets that stand
    in for the paper's away from the real data, the one whose dial the claim is about first, the control after it.
    paper_dataset: what the reported numbers were measured on; empty for a table of our own, or of nothing measured.
    extra: further measured metrics to show. base: scale -> configuration that the rows change, where it is not the
    paper's. stands_for: data set -> the paper's that it stands in for, where the paper reports on several. measure:
    computes the static columns of a row from its configuration at scale paper, where the paper's `static` does not.
    readings: column -> what fills it, where that is not the metric of its name in the row's evaluation.
    """

    id: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    paper_dataset: str = ""
    static: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    base: Callable[..., Any] | None = None
    stands_for: Mapping[str, str] = field(default_factory=dict)
    measure: Callable[[Row, Any], Mapping[str, float]] | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether the paper prints this table."""
        return any(value is not None for row in self.rows for value in row.reported.values())

    @property
    def all_static(self) -> bool:
        """Whether nothing in this table needs training."""
        return self.columns == self.static

    def row(self, index: int) -> Row:
        """The row with this index. Raises UserError naming the rows that exist."""
        for row in self.rows:
            if row.index == index:
                return row
        known = ", ".join(str(row.index) for row in self.rows)
        raise UserError(f"table {self.id} has no row {index}; its rows are {known}")

    def own_rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.own)

    def concerns(self, row: Row, dataset: str) -> bool:
        """Whether the row is about what the data set stands in for; a data set of the user's own may be anything."""
        meant = self.stands_for.get(dataset, dataset)
        return not row.about or meant == row.about or meant not in self.stands_for.values()


@dataclass(frozen=True)
class Pretraining:
    """What the rows of a scale start from.

    run: scale -> the run that makes the weights, None where the scale has no such phase. weights: scale -> the file
    with them. after: the phase before this one, whose weights the run starts from.
    """

    run: Callable[..., Any]
    weights: Callable[[str], Path]
    after: Pretraining | None = None

    def phases(self, scale: str) -> list[Pretraining]:
        """Those that the scale has, first phase first; rows start from the last one, or afresh if there is none."""
        before = self.after.phases(scale) if self.after is not None else []
        return before if self.run(scale) is None else [*before, self]


@dataclass(frozen=True)
class Dimension:
    """A short name for what a sweep may vary.

    path: the dotted path whose type it has, and which it sets. values: what is tried unless the command line says
    otherwise, written as there: "1..4", "2,4,8", "1e-5..1e-3:log". changes: value -> all changes, where more than the
    path must change with it.
    """

    path: str
    values: str
    changes: Callable[[Any], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Sweeps:
    """What a paper's sweeps vary and start from.

    dimensions: by short name. dataset: what they run on where the command line names nothing; empty for the first data
    set of the first table. fresh: as in `Row`.
    """

    dimensions: Mapping[str, Dimension] = field(default_factory=dict)
    dataset: str = ""
    fresh: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """One paper: its base configuration at each scale, and its tables.

    base: scale -> configuration that the rows change. minutes: scale -> measured or estimated minutes of one row and
    seed. static: configuration -> values of the static metrics, in the paper's units. scale_notes: scale -> what stands
    in for what, printed under every table of that scale. sweeps: what sweeps of it vary.
    """

    key: str
    title: str
    base: Callable[..., Any]
    tables: tuple[Table, ...]
    static: Callable[[Any], Mapping[str, float]]
    minutes: Mapping[str, float] = field(default_factory=dict)
    pretraining: Pretraining | None = None
    scale_notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sweeps: Sweeps = Sweeps()

    def __post_init__(self) -> None:
        _assert_unique([table.id for table in self.tables], f"paper {self.key}: table")
        for table in self.tables:
            _check_table(self, table)

    def table(self, table_id: str) -> Table:
        """The table with this id, in any case. Raises UserError naming the tables that exist."""
        for table in self.tables:
            if table.id.lower() == table_id.lower():
                return table
        known = ", ".join(table.id for table in self.tables)
        raise UserError(f"paper {self.key} has no table {table_id!r}; its tables are {known}")

    def configuration(self, table: Table, row: Row, scale: str) -> Any:
        """Effective configuration of a row at a scale, without data set and seed."""
        assert row.changes is not None, f"{self.key} {table.id} row {row.index} is not built here"
        try:
            return apply_changes((table.base or self.base)(scale), row.changes, scale)
        except UserError as error:
            raise UserError(f"{self.key} {table.id} row {row.index} ({row.label}), scale {scale}: {error}") from error

    def static_values(self, table: Table, row: Row, scale: str) -> Mapping[str, float]:
        """The static columns of a row that is built here, in the paper's units."""
        config = self.configuration(table, row, scale)
        return self.static(config) if table.measure is None else table.measure(row, config)


def apply_changes(config: Config, changes: Mapping[str, Any], scale: str = "") -> Config:
    """Apply dotted changes together; a `Times` multiplies what it finds, an `AtScale` knows the scale.

    Raises UserError for an unknown path.
    """
    return with_changes(config, {path: _change(value, scale) for path, value in changes.items()})


def _change(value: Any, scale: str) -> Any:
    if isinstance(value, AtScale):
        return value.value(scale)
    return value.applied_to if isinstance(value, Times) else value


def rows_from_numbers(
    numbers: Mapping[str, Any],
    metrics: Iterable[str],
    *,
    label: Callable[[Mapping[str, Any]], str],
    changes: Mapping[int, Mapping[str, Any]],
    baselines: Mapping[int, int] | None = None,
    unavailable: Mapping[int, Mapping[str, str]] | None = None,
    prefixes: Mapping[str, str] | None = None,
) -> tuple[Row, ...]:
    """Rows of a paper's table: its record of numbers (`rows`, `own_rows`) joined with what vislab changes for each.

    label: record of a row -> its label. changes, baselines, unavailable: by row index, as in `Row`. prefixes: the
    paper's data set -> what its columns begin with in the record, "ovis_" for "ovis_AP"; the first one's numbers are
    also the row's `reported`.
    """
    metrics = tuple(metrics)
    prefixes = prefixes or {}

    def reported(record: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
        if not prefix:
            return {metric: record[metric] for metric in metrics}
        return {metric: record.get(prefix + metric, record.get(metric)) for metric in metrics}

    return tuple(
        Row(
            index=index,
            label=label(record),
            changes=changes.get(index),
            reported=reported(record, next(iter(prefixes.values()), "")),
            own=index in numbers["own_rows"],
            baseline=(baselines or {}).get(index),
            unavailable=(unavailable or {}).get(index, {}),
            reported_on={dataset: reported(record, prefix) for dataset, prefix in prefixes.items()},
        )
        for index, record in enumerate(numbers["rows"])
    )


def _check_table(paper: Paper, table: Table) -> None:
    where = f"{paper.key} {table.id}"
    indices = [row.index for row in table.rows]
    _assert_unique(indices, f"{where}: row")
    assert set(table.static) <= set(table.columns), f"{where}: static columns must be columns"
    for row in table.rows:
        assert set(row.reported) <= set(table.columns), f"{where} row {row.index}: reported numbers need a column"
        assert row.baseline is None or row.baseline in indices, (
            f"{where} row {row.index}: no baseline row {row.baseline}"
        )
        assert not row.own or row.changes is not None, f"{where} row {row.index}: an own row needs its changes"
        assert set(row.disputed) <= set(table.static), f"{where} row {row.index}: only static columns can be disputed"
        assert not set(table.readings) & set(table.static), f"{where}: static columns are not measured"
        assert row.about in ("", *table.stands_for.values()), f"{where} row {row.index}: nothing stands for it"
        if row.changes is not None:
            for scale in SCALES:
                config = paper.configuration(table, row, scale)
                for reading in table.readings.values():
                    apply_changes(config, reading.changes, scale)


def _assert_unique(names: list[Any], what: str) -> None:
    double = [name for name, count in Counter(names).items() if count > 1]
    assert not double, f"{what} {double} declared twice"
