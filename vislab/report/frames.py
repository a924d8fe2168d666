"""The long-form frame of a table: one line per cell, row x metric x data set. Its CSV is the source of every view.

Reported numbers come from the paper, measured ones from finished runs; neither is ever filled from the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vislab.metrics.statistics import Resampled, bootstrap, mean_and_std, paired_difference

COLUMNS = (
    "paper", "table", "row", "label", "metric", "reported", "measured", "std", "n", "ci_low", "ci_high", "scale",
    "dataset", "status", "train_key", "eval_key",
)  # fmt: skip
COSTS = ("train_minutes", "eval_minutes", "peak_memory_GiB")
DIFFERENCE = "AP_difference"
DECIMALS = 4  # of everything measured, so that equal results give equal bytes


@dataclass(frozen=True)
class Source:
    """Where a metric comes from: an evaluation that can be resampled, and the statistic's name there (a fraction)."""

    resampled: Resampled
    statistic: str


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
    """columns: the paper's metrics. extra: further measured metrics. datasets: in the order in which they are shown."""

    paper: str
    id: str
    scale: str
    columns: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    datasets: tuple[str, ...]
    static: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def row(self, index: int) -> ReportRow:
        return next(row for row in self.rows if row.index == index)


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
    if row.own and row.baseline is not None:
        for dataset in datasets:
            yield _difference_line(table, row, dataset, evidence)
    if row.own:
        for metric in table.extra:
            for dataset in datasets:
                yield _metric_line(row, metric, dataset, evidence.get((row.index, dataset), Evidence()))
    yield from (_static_line(row, metric) for metric in static)
    if row.own:
        for metric in COSTS:
            for dataset in datasets:
                known = evidence.get((row.index, dataset), Evidence())
                if known.evaluations:
                    yield _cost_line(metric, dataset, known)


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
        return line
    estimate = bootstrap([run.sources[metric].resampled for run in having], having[0].sources[metric].statistic)
    return line | {
        "measured": _percent(estimate.value),
        "std": _percent(estimate.std),
        "n": len(having),
        "ci_low": _percent(estimate.ci_low),
        "ci_high": _percent(estimate.ci_high),
        **_keys(having),
    }


def _difference_line(
    table: ReportTable, row: ReportRow, dataset: str, evidence: Mapping[tuple[int, str], Evidence]
) -> dict[str, Any]:
    """AP minus the baseline row's AP, over the seeds that both have, on the same videos."""
    assert row.baseline is not None
    reported = _difference(row.reported.get("AP"), table.row(row.baseline).reported.get("AP"))
    here = evidence.get((row.index, dataset), Evidence())
    there = evidence.get((row.baseline, dataset), Evidence())
    line = {"metric": DIFFERENCE, "reported": reported, "dataset": dataset}
    pairs = [(a, b) for a in here.evaluations for b in there.evaluations if a.seed == b.seed]
    if not pairs:
        return line | {"status": "failed" if "failed" in (here.status, there.status) else "not-run"}
    ours, theirs = ([evaluation.sources["AP"].resampled for evaluation in side] for side in zip(*pairs, strict=True))
    found = paired_difference(ours, theirs, pairs[0][0].sources["AP"].statistic)
    values = [100 * (_point(a.sources["AP"]) - _point(b.sources["AP"])) for a, b in pairs]
    return line | {
        "status": "measured",
        "measured": _percent(found.difference),
        "std": _rounded(mean_and_std(values)[1]),
        "n": len(pairs),
        "ci_low": _percent(found.ci_low),
        "ci_high": _percent(found.ci_high),
        **_keys([a for a, _ in pairs]),
    }


def _cost_line(metric: str, dataset: str, known: Evidence) -> dict[str, Any]:
    mean, std = mean_and_std([evaluation.costs.get(metric, math.nan) for evaluation in known.evaluations])
    numbers = {"measured": _rounded(mean), "std": _rounded(std), "n": len(known.evaluations)}
    return {"metric": metric, "dataset": dataset, "status": "measured", **numbers, **_keys(known.evaluations)}


def _keys(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """The keys of all seeds, separated by spaces."""
    return {
        "train_key": " ".join(evaluation.train_key for evaluation in evaluations),
        "eval_key": " ".join(evaluation.eval_key for evaluation in evaluations),
    }


def _point(source: Source) -> float:
    return float(source.resampled.summaries(None, [source.statistic])[source.statistic][0])


def _difference(value: float | None, baseline: float | None) -> float | None:
    """Of two printed numbers, without the dust of binary fractions: 46.4 - 44.9 is 1.5."""
    return None if value is None or baseline is None else round(value - baseline, 6)


def _percent(fraction: float) -> float:
    return _rounded(100 * fraction)


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)
