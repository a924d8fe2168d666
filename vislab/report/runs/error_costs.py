"""What each type of error costs finished runs (`metrics.errors`), kept in the store, and drawn row by row."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from vislab.metrics.errors import ERROR_TYPES, ErrorBreakdown, error_breakdown
from vislab.metrics.inputs import load_json, read_results
from vislab.metrics.matches import Matches
from vislab.metrics.statistics import Estimate, bootstrap, mean_and_std
from vislab.records import atomic_path
from vislab.report.figures.style import COLOURS, COLUMN_HEIGHT, COLUMN_WIDTH, PAGE_WIDTH, PLOT
from vislab.report.runs.labelled_videos import LabelledVideos
from vislab.report.runs.stored_runs import StoredRun
from vislab.report.tables.evidence import Remembered

_OWN = ("error", "fixed_to", "truth_found", "truth_missed")
_LOST = "AP$_{50}$ lost (percentage points)"
_LABEL_WIDTH = 24  # characters of a line
_MOST = (-1.0, 1.0)  # what a difference of AP can be


@dataclass(frozen=True)
class ErrorCosts:
    """Of runs that differ in their seed. lost: type -> AP50 that it costs; counts: type -> how many, mean over runs."""

    lost: Mapping[str, Estimate]
    counts: Mapping[str, float]


def error_costs(runs: Sequence[StoredRun], videos: LabelledVideos) -> ErrorCosts:
    """Of evaluations on these videos. The first call for a run computes them, and leaves them in its folder."""
    known = [functools.partial(_breakdown, run, videos) for run in runs]
    sources = [
        Remembered(load, run.eval_folder / "matches.npz", run.eval_folder / "errors-bootstrap.npz", ERROR_TYPES)
        for load, run in zip(known, runs, strict=True)
    ]
    lost = {name: bootstrap(sources, name, bounds=_MOST) for name in ERROR_TYPES}
    counts = [load().counts for load in known]
    return ErrorCosts(lost, {name: mean_and_std([each[name] for each in counts])[0] for name in ERROR_TYPES})


def draw_error_costs(sections: Mapping[str, Mapping[str, ErrorCosts]]) -> Figure:
    """Bars with intervals: the types below each other for one row; a panel for each type, across a page, for several.

    sections: title -> label -> costs; below each other, on the same axes.
    """
    if [len(rows) for rows in sections.values()] == [1]:
        return _one_row(next(iter(next(iter(sections.values())).values())))
    labels = {label: fill(label, _LABEL_WIDTH) for rows in sections.values() for label in rows}
    heights = [0.5 + sum(0.1 + 0.12 * (labels[label].count("\n") + 1) for label in rows) for rows in sections.values()]
    with matplotlib.rc_context(PLOT):
        figure = Figure(figsize=(PAGE_WIDTH, sum(heights) + 0.2), layout="constrained")
        parts = figure.subfigures(len(sections), 1, height_ratios=heights, squeeze=False)[:, 0]
        panels: list[Axes] = []
        for part, (title, rows) in zip(parts, sections.items(), strict=True):
            if title:
                part.suptitle(title, x=0.01, ha="left", fontsize=8, fontweight="bold")
            panels += _types_side_by_side(part, {labels[label]: costs for label, costs in rows.items()})
        low, high = zip(*(panel.get_xlim() for panel in panels), strict=True)
        for panel in panels:
            panel.set_xlim(min(low), max(high))
        figure.supxlabel(_LOST, fontsize=8)
    return figure


def _types_side_by_side(part: SubFigure, rows: Mapping[str, ErrorCosts]) -> list[Axes]:
    panels = list(part.subplots(1, len(ERROR_TYPES), sharey=True))
    for panel, name in zip(panels, ERROR_TYPES, strict=True):
        _bars(panel, [costs.lost[name] for costs in rows.values()])
        panel.set_title(name)
    panels[0].set(yticks=range(len(rows)), yticklabels=list(rows))
    panels[0].invert_yaxis()
    return panels


def _one_row(costs: ErrorCosts) -> Figure:
    with matplotlib.rc_context(PLOT):
        figure = Figure(figsize=(COLUMN_WIDTH, COLUMN_HEIGHT), layout="constrained")
        axes = figure.subplots()
        _bars(axes, list(costs.lost.values()))
        axes.set(yticks=range(len(costs.lost)), yticklabels=list(costs.lost), xlabel=_LOST)
        axes.invert_yaxis()
    return figure


def _bars(axes: Axes, found: Sequence[Estimate]) -> None:
    places = np.arange(len(found))
    values = 100 * np.array([each.value for each in found])
    ends = 100 * np.array([[each.ci_low, each.ci_high] for each in found])
    axes.barh(places, values, 0.66, color=COLOURS[0], linewidth=0)
    axes.hlines(places, ends[:, 0], ends[:, 1], color="black", linewidth=0.9)
    axes.axvline(0, color="0.3", linewidth=0.6)
    axes.grid(visible=False, axis="y")


def _breakdown(run: StoredRun, videos: LabelledVideos) -> ErrorBreakdown:
    path = run.eval_folder / "errors.npz"
    if path.exists():
        return _load(path)
    predictions = run.eval_folder / "predictions.json"
    found = error_breakdown(videos.truth, read_results(load_json(predictions), videos.truth, str(predictions)))
    arrays = {name: getattr(found, name) for name in _OWN}
    arrays |= {field.name: getattr(found.matches, field.name) for field in fields(Matches)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return found


def _load(path: Path) -> ErrorBreakdown:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    own = {name: arrays.pop(name) for name in _OWN}
    return ErrorBreakdown(Matches(**arrays), **own)
