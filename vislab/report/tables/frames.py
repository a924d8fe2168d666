"""The long-form frame of a table: one line per cell, row x metric x data set. Its CSV is the source of every view.

Reported numbers come from the paper, measured ones from finished runs; neither is ever filled from the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vislab.metrics.numbers import bounds, is_count
from vislab.metrics.statistics import (
    Resampled,
    bootstrap,
    mean_and_std,
    paired_difference,
)

COLUMNS = (
    "paper", "table", "row", "label", "metric", "reported", "measured", "std", "n", "ci_low", "ci_high", "scale",
    "dataset", "status", "train_key", "eval_key",
)  # fmt: skip
COSTS = ("train_minutes", "eval_minutes", "peak_memory_GiB")
_DIFFERENCE = "_difference"
DIFFERENCE = f"AP{_DIFFERENCE}"
TRACKING = {"mot": ("IDF1", "MOTA", "IDP", "IDR", "IDs"), "hota": ("HOTA", "DetA", "AssA")}
DECIMALS = 4  # of everything measured, so that equal results give equal bytes


@dataclass(frozen=True)
class Source:
    """Where a metric comes from: an evaluation that can be resampled, and the statistic's name there.

    Statistics are fractions, but for those that `metrics.numbers.is_count` knows as counts. eval_key: of the
    evaluation, where it is not that of the `Evaluation` which holds this.
    """

    resampled: Resampled
    statistic: str
    eval_key: str = ""


@dataclass(frozen=True)
class Evaluation:
    """One finished run of one seed. sources: metric -> where it comes from. costs: of `COSTS`."""

    seed: int
    train_key: str
    eval_key: str
    sources: Mapping[str, Source]
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What is known of one row on one data set: its finished seeds and, per seed that failed, the sentence."""

    evaluations: tuple[Evaluation, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        if self.evaluations:
            return "measured"
        return "failed" if self.failures else "not-run"


@dataclass(frozen=True)
class ReportRow:
    """own: run here; other rows show what the paper copied. static: metric -> value that needs no training."""

    index: int
    label: str
    own: bool
    reported: Mapping[str, float | None] = field(default_factory=dict)
    static: Mapping[str, float] = field(default_factory=dict)
    baseline: int | None = None


@dataclass(frozen=True)
class ReportTable:
    """columns: the paper's metrics. extra: further measured metrics. datasets: in the order in which they are shown.

    tracking: names out of `TRACKING` that were asked for; unlike the extra ones, each is compared with the baseline.
    """

    paper: str
    id: str
    scale: str
    columns: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    datasets: tuple[str, ...]
    static: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    tracking: tuple[str, ...] = ()

    def row(self, index: int) -> ReportRow:
        return next(row for row in self.rows if row.index == index)


def difference_of(metric: str) -> str:
    """Name of the metric's difference to the baseline row."""
    return f"{metric}{_DIFFERENCE}"


def compared_metric(name: str) -> str | None:
    """The metric that a difference is one of; None for what is no difference."""
    return name.removesuffix(_DIFFERENCE) if name.endswith(_DIFFERENCE) else None


def common_seeds(here: Evidence, there: Evidence, metric: str) -> list[tuple[Evaluation, Evaluation]]:
    """The evaluations of the seeds that two rows have the metric of, side by side."""
    return [
        (ours, theirs)
        for ours in here.evaluations
        for theirs in there.evaluations
        if ours.seed == theirs.seed and metric in ours.sources and metric in theirs.sources
    ]


def table_frame(table: ReportTable, evidence: Mapping[tuple[int, str], Evidence]) -> pd.DataFrame:
    """The frame of a table with the columns `COLUMNS`. evidence: (row index, data set) -> what is known."""
    common = {
        "paper": table.paper,
        "table": table.id,
        "scale": table.scale,
        "dataset": "",
        "train_key": "",
        "eval_key": "",
    }
    lines = [
        common | {"row": row.index, "label": row.label} | line
        for row in table.rows
        for line in _row_lines(table, row, evidence)
    ]
    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    numbers = ["reported", "measured", "std", "ci_low", "ci_high"]
    frame[numbers] = frame[numbers].astype(float)
    frame["n"] = frame["n"].fillna(0).astype(int)
    return frame


def _row_lines(
    table: ReportTable, row: ReportRow, evidence: Mapping[tuple[int, str], Evidence]
) -> Iterator[dict[str, Any]]:
    """All lines of one row: the paper's columns first, then what vislab adds."""
    static = [metric for metric in row.static if metric not in table.columns]
    datasets = table.datasets or ("",)  # nothing measured: the cells still say that they were not run
    for metric in table.columns:
        if metric in table.static:
            yield _static_line(row, metric)
        elif not row.own:
            yield _reported_only(row, metric)
        else:
            for dataset in datasets:
                yield _metric_line(row, metric, dataset, evidence.get((row.index, dataset), Evidence()))
    if row.own:
        yield from _added_lines(table, row, datasets, evidence)
    yield from (_static_line(row, metric) for metric in static)
    if row.own:
        for metric in COSTS:
            for dataset in datasets:
                known = evidence.get((row.index, dataset), Evidence())
                if known.evaluations:
                    yield _cost_line(metric, dataset, known)


def _added_lines(
    table: ReportTable, row: ReportRow, datasets: Sequence[str], evidence: Mapping[tuple[int, str], Evidence]
) -> Iterator[dict[str, Any]]:
    """Differences to the baseline row, and measured metrics that the paper does not have."""

    def measured(metric: str) -> Iterator[dict[str, Any]]:
        return (_metric_line(row, metric, name, evidence.get((row.index, name), Evidence())) for name in datasets)

    def compared(metric: str) -> Iterator[dict[str, Any]]:
        if row.baseline is not None:
            yield from (_difference_line(table, row, metric, dataset, evidence) for dataset in datasets)

    for metric in table.columns:
        if metric == "AP" or metric.endswith("_AP") or _tracks(metric):
            yield from compared(metric)
    for metric in table.extra:
        yield from measured(metric)
    for metric in table.tracking:
        yield from measured(metric)
        yield from compared(metric)


def _tracks(metric: str) -> bool:
    return any(metric in names for names in TRACKING.values())


def _static_line(row: ReportRow, metric: str) -> dict[str, Any]:
    reported = row.reported.get(metric)
    if metric in row.static:
        return {"metric": metric, "reported": reported, "measured": _rounded(row.static[metric]), "status": "static"}
    return {"metric": metric, "reported": reported, "status": "not-run" if row.own else "reported-only"}


def _reported_only(row: ReportRow, metric: str) -> dict[str, Any]:
    return {"metric": metric, "reported": row.reported.get(metric), "status": "reported-only"}


def _metric_line(row: ReportRow, metric: str, dataset: str, known: Evidence) -> dict[str, Any]:
    line = {"metric": metric, "reported": row.reported.get(metric), "dataset": dataset, "status": known.status}
    having = [evaluation for evaluation in known.evaluations if metric in evaluation.sources]
    if not having:
        return line | ({"status": "not-run"} if _tracks(metric) and known.evaluations else {})
    runs, statistic = [run.sources[metric].resampled for run in having], having[0].sources[metric].statistic
    estimate = bootstrap(runs, statistic, bounds=bounds(metric))
    return line | {
        "measured": _in_units(metric, estimate.value),
        "std": _in_units(metric, estimate.std),
        "n": len(having),
        "ci_low": _in_units(metric, estimate.ci_low),
        "ci_high": _in_units(metric, estimate.ci_high),
        **cell_keys(having, metric),
    }


def _difference_line(
    table: ReportTable, row: ReportRow, metric: str, dataset: str, evidence: Mapping[tuple[int, str], Evidence]
) -> dict[str, Any]:
    """A metric minus that of the baseline row, over the seeds that both have, on the same videos."""
    assert row.baseline is not None
    reported = _difference(row.reported.get(metric), table.row(row.baseline).reported.get(metric))
    here = evidence.get((row.index, dataset), Evidence())
    there = evidence.get((row.baseline, dataset), Evidence())
    line = {"metric": difference_of(metric), "reported": reported, "dataset": dataset}
    pairs = common_seeds(here, there, metric)
    if not pairs:
        return line | {"status": "failed" if "failed" in (here.status, there.status) else "not-run"}
    ours, theirs = ([evaluation.sources[metric].resampled for evaluation in side] for side in zip(*pairs, strict=True))
    found = paired_difference(ours, theirs, pairs[0][0].sources[metric].statistic)
    values = [_unit(metric) * (_point(a.sources[metric]) - _point(b.sources[metric])) for a, b in pairs]
    return line | {
        "status": "measured",
        "measured": _in_units(metric, found.difference),
        "std": _rounded(mean_and_std(values)[1]),
        "n": len(pairs),
        "ci_low": _in_units(metric, found.ci_low),
        "ci_high": _in_units(metric, found.ci_high),
        **cell_keys([a for a, _ in pairs], metric),
    }


def _cost_line(metric: str, dataset: str, known: Evidence) -> dict[str, Any]:
    mean, std = mean_and_std([evaluation.costs.get(metric, math.nan) for evaluation in known.evaluations])
    numbers = {"measured": _rounded(mean), "std": _rounded(std), "n": len(known.evaluations)}
    return {"metric": metric, "dataset": dataset, "status": "measured", **numbers, **cell_keys(known.evaluations)}


def split_keys(line: Mapping[str, Any] | pd.Series) -> list[tuple[str, str]]:
    """(train_key, eval_key) of every seed that a line of a frame was measured with, as `cell_keys` joined them."""
    return list(zip(line["train_key"].split(), line["eval_key"].split(), strict=True))


def cell_keys(evaluations: Sequence[Evaluation], metric: str = "") -> dict[str, str]:
    """The keys of all seeds, separated by spaces; of a metric, those of the evaluations that it comes from."""
    return {
        "train_key": " ".join(evaluation.train_key for evaluation in evaluations),
        "eval_key": " ".join(_eval_key(evaluation, metric) for evaluation in evaluations),
    }


def _eval_key(evaluation: Evaluation, metric: str) -> str:
    source = evaluation.sources.get(metric)
    return source.eval_key if source is not None and source.eval_key else evaluation.eval_key


def _point(source: Source) -> float:
    return float(source.resampled.summaries(None, [source.statistic])[source.statistic][0])


def _difference(value: float | None, baseline: float | None) -> float | None:
    """Of two printed numbers, without the dust of binary fractions: 46.4 - 44.9 is 1.5."""
    return None if value is None or baseline is None else round(value - baseline, 6)


def _unit(metric: str) -> int:
    """Fractions are reported in percent, counts as they are."""
    return 1 if is_count(metric) else 100


def _in_units(metric: str, value: float) -> float:
    return _rounded(_unit(metric) * value)


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
