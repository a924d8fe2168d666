"""From a declared table and the run store to its frame and the words around it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd

from vislab.records import RunStore
from vislab.report.evidence import gather
from vislab.report.frames import Evidence, ReportRow, ReportTable, table_frame
from vislab.report.views import TableText
from vislab.study.declare import Paper, Row, Table
from vislab.study.plan import PlannedRun

NOT_COMPARABLE = (
    "Numbers measured at this scale are not comparable in level with the paper's: compare rows with each other, on the "
    "same data."
)


def assemble(
    paper: Paper, table: Table, scale: str, planned: Sequence[PlannedRun], datasets: Sequence[str], store: RunStore
) -> tuple[pd.DataFrame, TableText]:
    """A table as it stands now.

    planned: the runs that it is made of; empty for static cells alone. datasets: in the order in which they are shown.
    """
    keys: dict[tuple[int, str], list[tuple[str, str]]] = defaultdict(list)
    for run in planned:
        keys[run.row.index, run.dataset].append((run.train_key, run.eval_key))
    metrics = (*table.columns, *table.extra)
    evidence = {place: gather(store, seeds, metrics) for place, seeds in keys.items()}
    frame = table_frame(report_table(paper, table, scale, datasets), evidence)
    text = TableText(
        title=f"{paper.key} {table.id}: {table.caption}",
        footnotes=_footnotes(paper, table, scale, planned, evidence),
        reasons=_reasons(table, scale, datasets, evidence),
        headings=_headings(table, datasets),
    )
    return frame, text


def report_table(paper: Paper, table: Table, scale: str, datasets: Sequence[str]) -> ReportTable:
    """The table as reports see it, with its static cells computed."""
    rows = tuple(
        ReportRow(row.index, row.label, row.own, row.reported, _static(paper, table, row, scale), row.baseline)
        for row in table.rows
    )
    return ReportTable(
        paper.key, table.id, scale, table.columns, rows, tuple(datasets), static=table.static, extra=table.extra
    )


def _static(paper: Paper, table: Table, row: Row, scale: str) -> dict[str, float]:
    """Nothing for what is not built here; at small scales, nothing for rows that do not exist there."""
    if row.changes is None or (scale != "paper" and not row.runs_at(scale)):
        return {}
    values = paper.static(paper.configuration(table, row, scale))
    return {name: value for name, value in values.items() if name in table.static or name.startswith("params_unique")}


def _reasons(
    table: Table, scale: str, datasets: Sequence[str], evidence: dict[tuple[int, str], Evidence]
) -> dict[tuple[int, str], str]:
    reasons = {}
    for row in table.own_rows():
        for dataset in datasets or ("",):
            known = evidence.get((row.index, dataset), Evidence())
            if known.failures and not known.evaluations:
                reasons[row.index, dataset] = f"failed: {known.failures[0]}"
            elif not known.evaluations:
                reasons[row.index, dataset] = row.unavailable.get(scale, _not_yet(scale, datasets))
    return reasons


def _not_yet(scale: str, datasets: Sequence[str]) -> str:
    if scale == "paper" and not datasets:
        return "not run: needs the real data set (--scale paper --data PATH)"
    return "not run yet"


def _footnotes(
    paper: Paper, table: Table, scale: str, planned: Sequence[PlannedRun], evidence: dict[tuple[int, str], Evidence]
) -> tuple[str, ...]:
    notes = [_origin(table), *paper.scale_notes.get(scale, ())]
    if scale != "paper":
        notes.append(NOT_COMPARABLE)
    if planned:
        notes.append(_set_up(planned))
        notes += _comparisons(table)
    for (row, dataset), known in sorted(evidence.items()):
        if known.evaluations and known.failures:
            notes.append(f"Row {row} on {dataset}: {len(known.failures)} more seed failed: {known.failures[0]}")
    return (*notes, *table.notes)


def _origin(table: Table) -> str:
    if table.published:
        return f"Reported: the paper's numbers, on {table.paper_dataset}."
    return "A table of vislab's own; the paper prints none like it."


def _comparisons(table: Table) -> list[str]:
    """Which rows the differences are between."""
    compared: dict[int, list[int]] = defaultdict(list)
    for row in table.rows:
        if row.own and row.baseline is not None:
            compared[row.baseline].append(row.index)
    parts = [
        f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))} with row {baseline}"
        for baseline, rows in compared.items()
    ]
    return [f"Δ AP compares {'; '.join(parts)}; seed by seed, on the same videos."] if parts else []


def _set_up(planned: Sequence[PlannedRun]) -> str:
    """Seeds, steps and videos behind the measured numbers."""
    seeds = sorted({run.seed for run in planned})
    steps = sorted({run.config.train.steps for run in planned})
    videos = {run.config.evaluation.data.num_videos for run in planned}
    start = "fresh weights" if planned[0].config.init is None else "pre-trained weights"
    counts = sorted(count for count in videos if count is not None)
    measured_on = f"{' or '.join(map(str, counts))} held-out videos" if counts else "all held-out videos"
    noun = "Seeds" if len(seeds) > 1 else "Seed"
    first = planned[0].config
    return (
        f"{noun} {', '.join(map(str, seeds))}; {' or '.join(map(str, steps))} training steps of batches of "
        f"{first.train.batch_size}, clips of {first.sampling.clip_length} frames, from {start}; measured on "
        f"{measured_on}."
    )


def _headings(table: Table, datasets: Sequence[str]) -> dict[str, str]:
    """What a declared data set is there for; a replacement stands for itself."""
    if len(table.datasets) < 2 or tuple(datasets) != table.datasets:
        return {}
    return {dataset: "the dial of the claim" for dataset in datasets[:-1]} | {datasets[-1]: "control"}
