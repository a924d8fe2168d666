"""Figures that every table can have, whatever its paper: of the runs behind it, and of its costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd
from figures import TableFigure
from matplotlib.figure import Figure

from vislab.errors import UserError
from vislab.records import RunStore
from vislab.report.cost_plots import draw_costs
from vislab.report.error_costs import draw_error_costs, error_costs
from vislab.report.labelled_videos import labelled_videos
from vislab.report.run_page import training_series
from vislab.report.run_report import groups_of_table
from vislab.report.stored_runs import Group
from vislab.report.training_curves import draw_losses


@dataclass(frozen=True)
class AnyTableFigure:
    """draw: from the run store and a table's report."""

    caption: str
    draw: Callable[[RunStore, pd.DataFrame], Figure]


def table_figures(table: str, store: RunStore) -> dict[str, TableFigure]:
    """Name on the command line -> the figure, of one table."""
    return {name: TableFigure(figure.caption, table, partial(figure.draw, store)) for name, figure in ANY_TABLE.items()}


def _curves(store: RunStore, frame: pd.DataFrame) -> Figure:
    return draw_losses({dataset: training_series(groups) for dataset, groups in _by_dataset(frame, store).items()})


def _errors(store: RunStore, frame: pd.DataFrame) -> Figure:
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
                raise UserError(f"{store.root}: has no evaluation {run.eval_key} of run {run.train_key} any more")
    if not found:
        name = f"{frame['paper'].iloc[0]} {frame['table'].iloc[0]}"
        raise UserError(f"no row of {name} is measured; run it with reproduce_table.py")
    return found


def _costs(store: RunStore, frame: pd.DataFrame) -> Figure:
    return draw_costs(frame)


ANY_TABLE = {
    "curves": AnyTableFigure("training loss of a table's rows, with bands over seeds", _curves),
    "errors": AnyTableFigure("what each type of error costs a table's rows", _errors),
    "costs": AnyTableFigure("AP of a table's rows against parameters, GFLOPs and training time", _costs),
}
