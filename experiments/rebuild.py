"""Reports made again from the run store: nothing is run, and no report loses a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from tables import Assembled, asked_families, assemble

from vislab.errors import UserError
from vislab.records import RunStore
from vislab.report.runs.stored_runs import StoredRun
from vislab.report.tables import agreement
from vislab.report.tables.files import csv_text, read_table, table_path, write_table
from vislab.report.tables.frames import split_keys
from vislab.study.declare import Paper, Table
from vislab.study.plan import dataset_label, plan_table


def reported_tables(papers: Iterable[Paper], scale: str, reports: Path) -> Iterator[tuple[Paper, Table]]:
    """Those that there is a report of."""
    for paper in papers:
        for table in paper.tables:
            if table_path(reports, scale, paper.key, table.id).exists():
                yield paper, table


def rebuild_table(paper: Paper, table: Table, scale: str, store: RunStore, reports: Path) -> str:
    """Make a report again from the runs that it was made of; it stays as it is where a number would be lost.

    Returns what became of it. Raises UserError if there is no such report.
    """
    path = table_path(reports, scale, paper.key, table.id)
    old = read_table(path)
    try:
        found = assembled_again(paper, table, scale, old, store)
    except (UserError, OSError) as error:
        return f"left as it is: {error}"
    lost = lost_cells(old, found.frame)
    if len(lost):
        return f"left as it is: {_why(lost, store)}"
    before = path.read_text(encoding="utf-8")
    write_table(found.frame, found.text, reports)
    agreement.update(path.parent, table.id, found.agreements)
    return _changes(before, csv_text(found.frame))


def assembled_again(paper: Paper, table: Table, scale: str, old: pd.DataFrame, store: RunStore) -> Assembled:
    """The table as it stands now, with the seeds, data sets and metrics of its report. old: the report's frame."""
    runs = list(_runs(old, store))
    if scale == "paper" and not runs:
        return assemble(paper, table, scale, (), (), store)
    datasets = _datasets(old, table, runs)
    results = [run.result for run in runs if run.result is not None]
    seeds = 1 + max((int(result["seed"]) for result in results), default=0)
    planned = plan_table(paper, table, scale, seeds=seeds, datasets=datasets)
    families = asked_families(table, old["metric"].unique())
    return assemble(paper, table, scale, planned, [dataset_label(name) for name in datasets], store, families)


def lost_cells(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The lines of the old frame whose numbers, or some of whose runs, the new one has not."""
    numbers = old.dropna(subset=["measured"])
    known = {_place(line): {*split_keys(line)} for _, line in new.dropna(subset=["measured"]).iterrows()}
    lost = [
        _place(line) not in known or not {*split_keys(line)} <= known[_place(line)] for _, line in numbers.iterrows()
    ]
    return numbers[lost]


def _why(lost: pd.DataFrame, store: RunStore) -> str:
    keys = dict.fromkeys(key for _, line in lost.iterrows() for key in split_keys(line))
    missing = [key for key in keys if store.result(*key) is None]
    if missing:
        noun = "run is" if len(missing) == 1 else "runs are"
        return f"{len(missing)} {noun} not in the store: {', '.join(map('/'.join, missing))}"
    first = lost.iloc[0]
    where = f" on {first['dataset']}" if first["dataset"] else ""
    which = f"{first['metric']} of row {first['row']}{where}"
    return f"{len(lost)} of its numbers are not of what is declared now, such as {which}"


def _changes(before: str, after: str) -> str:
    old, new = before.splitlines()[1:], after.splitlines()[1:]
    changed = len(set(new) - set(old))
    return f"{changed} of {len(new)} cells changed" if changed or len(old) != len(new) else "numbers as before"


def _datasets(old: pd.DataFrame, table: Table, runs: Sequence[StoredRun]) -> tuple[str, ...]:
    """Names of the data sets that the report is about, in its order; where rows are about different ones and do not
    tell it, as declared."""
    names = [_name(label, table, runs) for label in old["dataset"].unique() if label]
    order = {name: place for place, name in enumerate(table.datasets)} if table.stands_for else {}
    return tuple(sorted(names, key=lambda name: order.get(name, len(order))))


def _name(label: str, table: Table, runs: Sequence[StoredRun]) -> str:
    """The preset or path of a data set that reports call so: as declared, else as its runs noted it."""
    declared = {dataset_label(name): name for name in table.datasets}
    if label in declared or label.startswith("synthetic"):
        return declared.get(label, label)
    noted = (run.config["evaluation"]["data"]["name"] for run in runs if run.result is not None)
    return next((name for name in noted if dataset_label(name) == label), label)


def _runs(frame: pd.DataFrame, store: RunStore) -> Iterator[StoredRun]:
    for key in dict.fromkeys(key for _, line in frame.iterrows() for key in split_keys(line)):
        yield StoredRun(store, *key)


def _place(line: pd.Series) -> tuple[int, str, str]:
    return line["row"], line["metric"], line["dataset"]
