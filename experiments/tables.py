"""From a declared table and the run store to its frame and the words around it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from static_values import static_values

from vislab.engine.evaluate import Untracked, add_tracking
from vislab.engine.progress import Watcher
from vislab.metrics.frame_overlap import MATCH_IOU, SCORE_THRESHOLD
from vislab.records import RunStore
from vislab.report.tables.agreement import Agreement, agreements, sentence
from vislab.report.tables.evidence import (
    RUN_NUMBERS,
    fill_run_numbers,
    gather,
    joined,
    run_devices,
    tracking_counts,
)
from vislab.report.tables.frames import TRACKING, Evidence, ReportRow, ReportTable, table_frame
from vislab.report.tables.ranking import ranks
from vislab.report.tables.views import TableText, heading
from vislab.study.declare import Paper, Row, Table
from vislab.study.plan import PlannedRun

NOT_COMPARABLE = (
    "Numbers measured at this scale are not comparable in level with the paper's: compare rows with each other, on the "
    "same data."
)
TRACKING_NOTES = {
    "mot": f"identities on the tight boxes of masks, matched at IoU {MATCH_IOU}; IDs counts switches, fewer are better",
    "hota": "on masks",
}

Keys = tuple[str, str]  # train_key, eval_key
Place = tuple[int, str]  # row index, data set


class Assembled(NamedTuple):
    """A table as it stands: its cells, the words around it, and how far it agrees with the paper's."""

    frame: pd.DataFrame
    text: TableText
    agreements: tuple[Agreement, ...]


def assemble(
    paper: Paper,
    table: Table,
    scale: str,
    planned: Sequence[PlannedRun],
    datasets: Sequence[str],
    store: RunStore,
    families: Sequence[str] = (),
    refused: Mapping[Keys, str] | None = None,
) -> Assembled:
    """A table as it stands now.

    planned: the runs that it is made of; empty for static cells alone. datasets: in the order in which they are shown.
    families: of `TRACKING`, asked for in addition to the table's own columns. refused: what `complete_tracking`
    returned.
    """
    keys: dict[Place, list[Keys]] = defaultdict(list)
    for run in planned:
        keys[run.row.index, run.dataset].append((run.train_key, run.eval_key))
    added = _added(table, families)
    metrics = (*table.columns, *table.extra, *added)
    if table.readings:
        evidence = _joined_evidence(planned, added, store)
    else:
        evidence = {place: gather(store, seeds, metrics) for place, seeds in keys.items()}
    static = {row.index: _static(paper, table, row, scale, store) for row in table.rows}
    frame = _frame(paper, table, scale, datasets, added, static, evidence)
    lacking = _lacking(metrics, evidence, refused or {})
    notes = _footnotes(paper, table, scale, planned, evidence)
    agreed = tuple(agreements(frame, evidence)) if scale != "smoke" else ()
    if planned:
        notes = (*notes, *map(sentence, agreed), *_run_notes(table, store, keys))
        notes = (*notes, *_tracking_notes(table, metrics, evidence, lacking))
    text = TableText(
        title=f"{paper.key} {table.id}: {table.caption}",
        footnotes=notes,
        reasons=lacking | _reasons(table, scale, datasets, evidence),
        headings=_headings(table, datasets),
        ranks=None if scale == "smoke" else ranks(frame, evidence),
    )
    return Assembled(frame, text, agreed)


def _joined_evidence(planned: Sequence[PlannedRun], added: Sequence[str], store: RunStore) -> dict[Place, Evidence]:
    """Of a table with several evaluations of a row; what was asked for in addition is about the first of them."""
    parts: dict[Place, dict[tuple[tuple[str, str], ...], list[Keys]]] = defaultdict(lambda: defaultdict(list))
    for run in planned:
        parts[run.row.index, run.dataset][tuple(run.columns.items())].append((run.train_key, run.eval_key))
    found = {}
    for place, seeds in parts.items():
        columns = [dict(names) for names in seeds]
        columns[0] |= {name: name for name in added}
        known = [gather(store, keys, [*names.values()]) for names, keys in zip(columns, seeds.values(), strict=True)]
        found[place] = joined(list(zip(known, columns, strict=True)))
    return found


def _frame(
    paper: Paper,
    table: Table,
    scale: str,
    datasets: Sequence[str],
    added: tuple[str, ...],
    static: Mapping[int, Mapping[str, float]],
    evidence: Mapping[Place, Evidence],
) -> pd.DataFrame:
    """The table's frame; where the paper reports on several data sets, each here stands beside the numbers of its own.

    Without data sets to measure on, the paper's take their place.
    """
    numbers = _run_numbers(table)
    if not table.stands_for:
        frame = table_frame(report_table(paper, table, scale, datasets, static, added), evidence)
        return fill_run_numbers(frame, evidence, numbers)
    parts = []
    for dataset in datasets or tuple(dict.fromkeys(table.stands_for.values())):
        part = table_frame(report_table(paper, table, scale, (dataset,), static, added), evidence)
        copied = (part["dataset"] == "") & ~part["metric"].isin(table.static) & (part["status"] != "static")
        parts.append(part.assign(dataset=part["dataset"].mask(copied, dataset)))
    whole = pd.concat(parts).drop_duplicates(["row", "metric", "dataset"]).sort_values("row", kind="stable")
    return fill_run_numbers(whole.reset_index(drop=True), evidence, numbers)


def _run_numbers(table: Table) -> dict[str, str]:
    """Columns that are one number a run, and which number."""
    measured = {name: table.readings[name].metric if name in table.readings else name for name in _shown(table)}
    return {name: metric for name, metric in measured.items() if metric in RUN_NUMBERS}


def _shown(table: Table) -> tuple[str, ...]:
    return tuple(name for name in (*table.columns, *table.extra) if name not in table.static)


def complete_tracking(
    planned: Iterable[PlannedRun], families: Sequence[str], store: RunStore, watcher: Watcher
) -> dict[Keys, str]:
    """Measure what finished runs lack of the families, from their predictions.

    Returns why not, for each run where that cannot be done.
    """
    waiting: dict[Keys, Untracked] = {}
    for run in planned:
        folder = store.eval_dir(run.train_key, run.eval_key)
        absent = tuple(family for family in families if tracking_counts(folder, family) is None)
        if absent and store.result(run.train_key, run.eval_key) is not None:
            waiting[run.train_key, run.eval_key] = Untracked(run.config.evaluation, folder, absent)
    refused = add_tracking(list(waiting.values()), watcher)
    return {keys: refused[run.folder] for keys, run in waiting.items() if run.folder in refused}


def tracking_families(table: Table, asked: Sequence[str]) -> tuple[str, ...]:
    """Those that were asked for, and those that the table has columns of."""
    shown = {*table.columns, *table.extra}
    return tuple(family for family, names in TRACKING.items() if family in asked or {*names} & shown)


def _added(table: Table, asked: Sequence[str]) -> tuple[str, ...]:
    """Tracking metrics of the families asked for that the table does not show anyway."""
    shown = {*table.columns, *table.extra}
    return tuple(name for family in asked for name in TRACKING[family] if name not in shown)


def asked_families(table: Table, metrics: Iterable[str]) -> tuple[str, ...]:
    """The families that were asked for, as a report that shows these metrics tells."""
    added = {*metrics} - {*table.columns, *table.extra}
    return tuple(family for family, names in TRACKING.items() if {*names} & added)


def report_table(
    paper: Paper,
    table: Table,
    scale: str,
    datasets: Sequence[str],
    static: Mapping[int, Mapping[str, float]],
    tracking: tuple[str, ...] = (),
) -> ReportTable:
    """The table as reports see it. static: row index -> its cells that need no training."""
    rows = tuple(
        ReportRow(
            row.index, row.label, row.own, _reported(table, row, datasets), static[row.index], row.baseline,
        )
        for row in table.rows
        if not datasets or any(table.concerns(row, dataset) for dataset in datasets)
    )  # fmt: skip
    return ReportTable(
        paper.key, table.id, scale, table.columns, rows, tuple(datasets), table.static, table.extra, tracking
    )


def _reported(table: Table, row: Row, datasets: Sequence[str]) -> Mapping[str, float | None]:
    """The paper's numbers beside which a single data set's are shown; otherwise the row's own."""
    if len(datasets) != 1:
        return row.reported
    return row.reported_on.get(table.stands_for.get(datasets[0], datasets[0]), row.reported)


def _static(paper: Paper, table: Table, row: Row, scale: str, store: RunStore) -> dict[str, float]:
    """Nothing for what is not built here; at small scales, nothing for rows that do not exist there."""
    if row.changes is None or (scale != "paper" and not row.runs_at(scale)):
        return {}
    values = static_values(paper, table, row, scale, store)
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


def _lacking(
    metrics: Sequence[str], evidence: Mapping[Place, Evidence], refused: Mapping[Keys, str]
) -> dict[Place, str]:
    """Why finished runs have no tracking metrics, where some are wanted; of the first seed without."""
    wanted = {name for names in TRACKING.values() for name in names if name in metrics}
    reasons: dict[Place, str] = {}
    for place, known in evidence.items():
        for run in known.evaluations:
            if not wanted <= run.sources.keys():
                why = refused.get((run.train_key, run.eval_key))
                reasons.setdefault(place, f"tracking not measured: {why}" if why else "tracking not measured yet")
    return reasons


def _tracking_notes(
    table: Table, metrics: Sequence[str], evidence: Mapping[Place, Evidence], lacking: Mapping[Place, str]
) -> Iterator[str]:
    """What the tracking metrics are, what they are compared with, and where only some seeds have them."""
    parts, shown = [], []
    for family, names in TRACKING.items():
        here = [name for name in names if name in metrics]
        parts += [f"{', '.join(here)}: {TRACKING_NOTES[family]}"] * bool(here)
        shown += here
    if not shown:
        return
    rule = f"Tracks count if they score at least {SCORE_THRESHOLD}, whatever their category, once if they have several"
    yield f"{'. '.join(parts)}. {rule}."
    if _comparisons(table) and "AP" in table.columns:
        yield "Their differences are between the same rows."
    for (row, dataset), reason in sorted(lacking.items()):
        runs = evidence[row, dataset].evaluations
        having = sum(all(name in run.sources for name in shown) for run in runs)
        if having:
            yield f"Row {row} on {dataset}: {', '.join(shown)} from {having} of {len(runs)} seeds; {reason}"


def _run_notes(table: Table, store: RunStore, keys: Mapping[Place, Sequence[Keys]]) -> Iterator[str]:
    """What the numbers of whole runs are, and what they were taken on."""
    numbers = {*_run_numbers(table).values()}
    devices = run_devices(store, (run for seeds in keys.values() for run in seeds)) if numbers else ()
    where = f" on {' or '.join(devices)}" if devices else ""
    if "training_gpu_hours" in numbers:
        yield (
            f"Training hours: measured ones are of one run{where}, mean ± standard deviation over seeds; they compare "
            "rows with each other, not with the paper's GPUs."
        )
    if "FPS" in numbers:
        yield (
            f"Frames per second: measured ones are of inference{where} with all that makes masks of its output, "
            "without reading frames, mean ± standard deviation over seeds; other work on the machine slows it down."
        )


def _not_yet(scale: str, datasets: Sequence[str]) -> str:
    if scale == "paper" and not datasets:
        return "not run: needs the real data set (--scale paper --data PATH)"
    return "not run yet"


def _footnotes(
    paper: Paper, table: Table, scale: str, planned: Sequence[PlannedRun], evidence: dict[tuple[int, str], Evidence]
) -> tuple[str, ...]:
    notes = [_origin(table)]
    if not table.all_static:
        notes += paper.scale_notes.get(scale, ())
        notes += [NOT_COMPARABLE] if scale != "paper" else []
    if planned:
        notes.append(_set_up(planned))
        notes += _comparisons(table)
    for (row, dataset), known in sorted(evidence.items()):
        if known.evaluations and known.failures:
            notes.append(f"Row {row} on {dataset}: {len(known.failures)} more seed failed: {known.failures[0]}")
    disputed = [f"Row {row.index}, {heading(name)}: {why}" for row in table.rows for name, why in row.disputed.items()]
    return (*notes, *disputed, *table.notes)


def _origin(table: Table) -> str:
    if table.paper_dataset:
        return f"Reported: the paper's numbers, on {table.paper_dataset}."
    if table.published:
        return "Reported: the paper's numbers."
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
    subject = "Δ AP" if "AP" in table.columns else "Δ"
    return [f"{subject} compares {'; '.join(parts)}; seed by seed, on the same videos."] if parts else []


def _set_up(planned: Sequence[PlannedRun]) -> str:
    """Seeds, steps and videos behind the measured numbers."""
    configs = [run.config for run in planned]
    seeds = sorted({run.seed for run in planned})
    steps, batches = {run.train.steps for run in configs}, {run.train.batch_size for run in configs}
    lengths = {run.sampling.clip_length for run in configs}
    videos = {run.evaluation.data.num_videos for run in configs}
    start = "fresh weights" if configs[0].init is None else "pre-trained weights"
    counts = [count for count in videos if count is not None]
    measured_on = f"{_either(counts)} held-out videos" if counts else "all held-out videos"
    noun = "Seeds" if len(seeds) > 1 else "Seed"
    return (
        f"{noun} {', '.join(map(str, seeds))}; {_either(steps)} training steps of batches of {_either(batches)}, clips "
        f"of {_either(lengths)} frame{'' if lengths == {1} else 's'}, from {start}; measured on {measured_on}."
    )


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))


def _headings(table: Table, datasets: Sequence[str]) -> dict[str, str]:
    """What a declared data set is there for; a replacement stands for itself."""
    if table.stands_for:
        return {name: f"standing in for {table.stands_for[name]}" for name in datasets if name in table.stands_for}
    if len(table.datasets) < 2 or tuple(datasets) != table.datasets:
        return {}
    return {dataset: "the dial of the claim" for dataset in datasets[:-1]} | {datasets[-1]: "control"}
