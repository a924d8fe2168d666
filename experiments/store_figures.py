"""Figures of the runs behind a table: those that every table can have, whatever its paper, and what others need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
from figures import TableFigure
from matplotlib.figure import Figure

from vislab.errors import UserError
from vislab.records import RunStore
from vislab.report.figures.cost_plots import draw_costs
from vislab.report.figures.level_plots import draw_levels
from vislab.report.figures.table_overlays import draw_table_overlays
from vislab.report.figures.training_curves import draw_losses
from vislab.report.runs.error_costs import draw_error_costs, error_costs
from vislab.report.runs.labelled_videos import labelled_videos
from vislab.report.runs.run_page import training_series
from vislab.report.runs.run_report import groups_of_table
from vislab.report.runs.stored_runs import Group
from vislab.report.runs.track_levels import describe_rows, row_levels


@dataclass(frozen=True)
class Choice:
    """What of a table is drawn, as asked for on the command line.

    dataset: of those that it was measured on, None for the first. rows: their numbers, None for all. seed: of the runs
    that predictions are taken from. video: name or position in the data set, min_score: least score of a track; None
    leaves both to the figure.
    """

    dataset: str | None = None
    rows: tuple[int, ...] | None = None
    seed: int = 0
    video: str | None = None
    min_score: float | None = None


@dataclass(frozen=True)
class StoreFigure:
    """draw: from the run store, a table's report and what of it was chosen. table: its number; empty if any will do."""

    caption: str
    draw: Callable[[RunStore, pd.DataFrame, Choice], Figure]
    table: str = ""

    def of(self, table: str, store: RunStore, choice: Choice) -> TableFigure:
        """The figure of one table."""
        return TableFigure(self.caption, table, lambda frame: self.draw(store, frame, choice))


def chosen_groups(store: RunStore, frame: pd.DataFrame, choice: Choice) -> list[Group]:
    """The rows that were chosen, in their order, on one data set. Raises UserError for those without runs."""
    measured = _measured(frame, choice)
    rows = rows_with_runs(frame, choice)
    for row in choice.rows or ():
        if row not in rows:
            known, dataset = ", ".join(map(str, rows)), measured["dataset"].iloc[0]
            raise UserError(f"--rows: {_name(frame)} has no run of row {row} on {dataset}, but of {known}")
    parts = [measured[measured["row"] == row] for row in choice.rows or rows]
    return [group for groups in _by_dataset(pd.concat(parts), store).values() for group in groups]


def rows_with_runs(frame: pd.DataFrame, choice: Choice) -> list[int]:
    """Numbers of the rows that were measured on the chosen data set, whichever were chosen. Raises UserError."""
    return [int(row) for row in _measured(frame, choice)["row"].unique()]


def _measured(frame: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """What was measured on the chosen data set, else on the first of all. Raises UserError if nothing was."""
    measured = frame[(frame["status"] == "measured") & (frame["eval_key"] != "")]
    datasets = [str(dataset) for dataset in measured["dataset"].unique()]
    if not datasets:
        raise UserError(f"no row of {_name(frame)} is measured; run it with reproduce_table.py")
    if choice.dataset not in (None, *datasets):
        raise UserError(f"{_name(frame)} is not measured on {choice.dataset}, but on {', '.join(datasets)}")
    return measured[measured["dataset"] == (choice.dataset or datasets[0])]


def _name(frame: pd.DataFrame) -> str:
    return f"{frame['paper'].iloc[0]} {frame['table'].iloc[0]}"


def _overlays(store: RunStore, frame: pd.DataFrame, choice: Choice) -> Figure:
    groups = chosen_groups(store, frame, choice)
    return draw_table_overlays(groups, choice.seed, choice.video, choice.min_score)


def _thresholds(store: RunStore, frame: pd.DataFrame, choice: Choice) -> Figure:
    groups = chosen_groups(store, frame, choice)
    rows = row_levels(groups)
    print(f"{_name(frame)} on {groups[0].dataset}, tight boxes of masks matched at IoU 0.5, 95 % intervals over videos")
    print("\n".join(describe_rows(rows)))
    return draw_levels(rows)


def _curves(store: RunStore, frame: pd.DataFrame, _: Choice) -> Figure:
    return draw_losses({dataset: training_series(groups) for dataset, groups in _by_dataset(frame, store).items()})


def _errors(store: RunStore, frame: pd.DataFrame, _: Choice) -> Figure:
    found = {}
    for dataset, groups in _by_dataset(frame, store).items():
        videos = labelled_videos(groups[0].runs[0])
        found[dataset] = {group.label: error_costs(group.runs, videos) for group in groups}
    return draw_error_costs(found)


def _by_dataset(frame: pd.DataFrame, store: RunStore) -> Mapping[str, list[Group]]:
    """The runs behind the table. Raises UserError without any, and for those that lie in another store."""
    found: dict[str, list[Group]] = {}
    for group in groups_of_table(frame, store):
        found.setdefault(group.dataset, []).append(group)
        for run in group.runs:
            if run.result is None:
                first = frame.iloc[0]
                raise UserError(
                    f"{store.root}: has no evaluation {run.eval_key} of run {run.train_key}, which is behind "
                    f"{group.label} of {_name(frame)} in the reports; make it with: reproduce_table.py {_name(frame)} "
                    f"--scale {first['scale']} --seeds {len(group.runs)}, or give the store that has it as --runs"
                )
    if not found:
        raise UserError(f"no row of {_name(frame)} is measured; run it with reproduce_table.py")
    return found


def _costs(store: RunStore, frame: pd.DataFrame, _: Choice) -> Figure:
    return draw_costs(frame)


ANY_TABLE = {
    "curves": StoreFigure("training loss of a table's rows, with bands over seeds", _curves),
    "errors": StoreFigure("what each type of error costs a table's rows", _errors),
    "costs": StoreFigure("AP of a table's rows against parameters, GFLOPs and training time", _costs),
    "overlays": StoreFigure("one video: ground truth, and what each of a table's rows finds in it", _overlays),
    "thresholds": StoreFigure("identities of a table's rows at every score threshold, by how many tracks", _thresholds),
}
