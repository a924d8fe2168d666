"""From keys of runs to a page about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from vislab.errors import UserError
from vislab.metrics.matches import STATISTICS
from vislab.metrics.visibility import GROUPS
from vislab.records import RunStore, write_text
from vislab.report.runs.run_page import Notice, run_page
from vislab.report.runs.stored_runs import Group, StoredRun, find_runs, grouped
from vislab.report.tables.evidence import VISIBILITY, gather, tracking_counts
from vislab.report.tables.files import table_path
from vislab.report.tables.frames import TRACKING, Evidence, ReportRow, ReportTable, split_keys, table_frame
from vislab.report.tables.views import TableText, View, build_view

_COLUMNS = ("AP", "AP50", "AP75", "AR1", "AR10")
VIDEOS = 2


def write_run_report(named: Sequence[str], runs: Path, out: Path | None, num_videos: int, notice: Notice) -> Path:
    """A page about runs, those that differ in their seed together. Returns its path.

    Args:
        named: see `stored_runs.find_runs`; runs: the store that keys are looked for in.
        out: the file; None for report.html in the run's folder, if there is one run.
        num_videos: as many of the best and of the worst videos are shown.

    Raises:
        UserError: no such run, or a file that cannot be written.
    """
    if num_videos < 0:
        raise UserError(f"--videos is {num_videos}, expected 0 or more")
    found = find_runs(named, runs)
    folders = {run.folder.resolve(): run.folder for run in found}
    if out is None and len(folders) > 1:
        raise UserError("--out is missing: say where the page about several runs goes, such as --out report.html")
    groups = grouped(found)
    page = run_page(numbers(groups), groups, num_videos, notice)
    return write_page(page, out or found[0].folder / "report.html")


def write_table_report(frame: pd.DataFrame, view: View, store: RunStore, reports: Path, notice: Notice) -> Path | None:
    """TABLE-report.html beside a table's other files: a page about the runs behind it. None without finished runs.

    frame, view: as `files.write_table` takes and returns them.
    """
    groups = groups_of_table(frame, store)
    if not groups:
        return None
    first = frame.iloc[0]
    path = table_path(reports, first["scale"], first["paper"], f"{first['table']}-report", "html")
    return write_page(run_page(view, groups, VIDEOS, notice), path)


def write_page(page: str, path: Path) -> Path:
    """Returns the path. Raises UserError where it cannot be written."""
    try:
        write_text(path, page)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


def groups_of_table(frame: pd.DataFrame, store: RunStore) -> list[Group]:
    """The runs behind a table's measured cells, by row and data set; of each cell, those of the first metric.

    frame: as `frames.table_frame` makes it.
    """
    measured = frame[(frame["status"] == "measured") & (frame["eval_key"] != "")]
    found = []
    for (row, dataset), cells in measured.groupby(["row", "dataset"], sort=False):
        first = cells.iloc[0]
        runs = tuple(StoredRun(store, *pair) for pair in split_keys(first))
        found.append(Group(f"{row} {first['label']}", str(dataset), runs))
    return found


def numbers(groups: Sequence[Group]) -> View:
    """What runs were measured at: a row for each group, compared with the first one."""
    labels = list(dict.fromkeys(group.label for group in groups))
    evidence = {(labels.index(group.label), group.dataset): _evidence(group) for group in groups}
    first = groups[0].runs[0]
    table = ReportTable(
        "runs" if len(groups) > 1 else "run",
        first.train_key,
        first.config["scale"],
        _COLUMNS,
        tuple(ReportRow(row, label, True, baseline=0 if row else None) for row, label in enumerate(labels)),
        tuple(dict.fromkeys(group.dataset for group in groups)),
        extra=_further(groups),
    )
    frame = table_frame(table, evidence)
    known = frame[[(row, dataset) in evidence for row, dataset in zip(frame["row"], frame["dataset"], strict=True)]]
    reasons = {
        (labels.index(group.label), group.dataset): "; ".join(_why(group)) for group in groups if not _evaluated(group)
    }
    note = f"Scale {first.config['scale']}." + (" Differences are to row 0, seed by seed." if len(labels) > 1 else "")
    return build_view(known, TableText(_title(groups), (note,), reasons))


def _evidence(group: Group) -> Evidence:
    metrics = (*STATISTICS, *VISIBILITY, *(name for names in TRACKING.values() for name in names))
    known = [gather(run.store, [(run.train_key, run.eval_key)], metrics) for run in group.runs if run.eval_key]
    return Evidence(tuple(each for one in known for each in one.evaluations))


def _further(groups: Sequence[Group]) -> tuple[str, ...]:
    """Metrics beside `_COLUMNS` that some run has numbers of."""
    names: list[str] = []
    for run in (run for group in groups for run in group.runs if run.result is not None):
        assert run.result is not None
        seen = run.result.get("visibility_iou") or {}
        names += [name for name, group in zip(VISIBILITY, GROUPS, strict=True) if seen.get(group) is not None]
        names += [name for family in TRACKING if tracking_counts(run.eval_folder, family) for name in TRACKING[family]]
    return tuple(dict.fromkeys(names))


def _evaluated(group: Group) -> bool:
    return any(run.result is not None for run in group.runs)


def _why(group: Group) -> list[str]:
    failed = [text for run in group.runs for text in run.failures]
    return [f"failed: {text}" for text in dict.fromkeys(failed)] or ["not evaluated yet"]


def _title(groups: Sequence[Group]) -> str:
    datasets = ", ".join(dict.fromkeys(group.dataset for group in groups))
    if len(groups) > 1:
        return f"{len(groups)} models on {datasets}"
    runs = groups[0].runs
    which = f"run {runs[0].train_key}" if len(runs) == 1 else f"{len(runs)} seeds"
    return f"{groups[0].label} on {datasets}: {which}"
