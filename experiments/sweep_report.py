"""From a sweep's trials to its files, and to the screen."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text
from sweep_numbers import NOTES, QUANTITIES
from sweep_setup import Setup
from tables import NOT_COMPARABLE

from vislab.report.sweeps.sweep_files import best_rows, write_sweep
from vislab.report.sweeps.sweep_frame import TrialRecord, sweep_frame
from vislab.report.sweeps.sweep_plots import Axis, Sweep
from vislab.study.plan import dataset_label
from vislab.study.sweep_importance import importances
from vislab.study.sweep_queue import OUTCOME, TrialQueue
from vislab.study.sweep_values import Range

_STATES = {"FAIL": "failed"}
_LINES = 10  # on the screen


def write_report(setup: Setup, trials: TrialQueue, reports: Path, console: Console) -> None:
    """Write everything and print the best trials."""
    sweep = gathered(setup, trials)
    folder = reports / setup.wish.scale / setup.paper.key / "sweeps" / setup.name
    title = f"{setup.paper.key}: {', '.join(axis.name for axis in setup.space.axes)}"
    written, missing = write_sweep(sweep, title, notes(setup), folder)
    if len(sweep.complete):
        console.print(_screen_table(sweep))
    files = ", ".join(path.name for path in written)
    console.print(f"{folder}: {files}", markup=False, highlight=False, soft_wrap=True)
    for reason in missing:
        console.print(reason, style="dim", markup=False, highlight=False, soft_wrap=True)


def gathered(setup: Setup, trials: TrialQueue) -> Sweep:
    """What reports show of the sweep as it stands."""
    names = [axis.name for axis in setup.space.axes]
    found = trials.trials()
    records = [
        TrialRecord(
            number=trial.number,
            state=_STATES.get(trial.state.name, trial.state.name.lower()),
            point=trial.params,
            **trial.user_attrs.get(OUTCOME, {}),
        )
        for trial in found
    ]
    frame = sweep_frame(records, names, QUANTITIES, [each.name for each in setup.objectives])
    shares, label = importances(trials.study, names, found)
    axes = [
        Axis(axis.name, _label(axis.name), isinstance(axis.values, Range) and axis.values.log)
        for axis in setup.space.axes
    ]
    by_objective = {each.name: share for each, share in zip(setup.objectives, shares, strict=True)}
    return Sweep(frame, axes, QUANTITIES, setup.objectives, by_objective, label)


def notes(setup: Setup) -> tuple[str, ...]:
    """What stands below the summary."""
    base, wish = setup.space.base, setup.wish
    space = "; ".join(f"{name}: {text}" for name, text in setup.space.describe().items())
    seeds = f"{wish.seeds} seed{'s' if wish.seeds > 1 else ''}"
    videos = base.evaluation.data.num_videos
    measured_on = f"{videos} held-out videos" if videos else "all held-out videos"
    how = f"Sampler {setup.rules.sampler}" + ("" if wish.pruner == "none" else f", pruner {wish.pruner}")
    at_scale = [*setup.paper.scale_notes.get(wish.scale, ())] + [NOT_COMPARABLE] * (wish.scale != "paper")
    shown = ["GFLOPs", "latency", "memory"]
    return (
        f"Varied: {space}.",
        f"{dataset_label(wish.dataset)}, {seeds} a trial, {base.train.steps} training steps of batches of "
        f"{base.train.batch_size} unless varied; measured on {measured_on}. {how}.",
        "Intervals: 95 %, over seeds and videos; ± is the standard deviation over seeds.",
        *(NOTES[name] for name in shown),
        *at_scale,
    )


def _label(name: str) -> str:
    """The last parts of a dotted path are enough on a figure."""
    return ".".join(name.split(".")[-2:])


def _screen_table(sweep: Sweep) -> ScreenTable:
    heads, rows = best_rows(sweep, _LINES)
    table = ScreenTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(Text(head), justify="right")
    for row, best in rows:
        table.add_row(*map(Text, row), style="bold green" if best else "")
    return table
