"""An evaluation as figures for a paper's column: PDF with embedded fonts, and PNG.

Shape letters: R replicates, I IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vislab.metrics.curves import ap_by_threshold, precision_recall
from vislab.metrics.errors import ERROR_TYPES
from vislab.metrics.evaluation import Evaluation
from vislab.metrics.matches import IOU_THRESHOLDS, RECALL_POINTS
from vislab.metrics.numbers import LOST_AP, Key
from vislab.metrics.statistics import basic_interval, mean_over_drawn_runs, video_draws
from vislab.metrics.subsets import OCCLUSIONS
from vislab.report.figures.style import (
    COLOURS,
    COLUMN_HEIGHT,
    COLUMN_WIDTH,
    HATCHES,
    LINES,
    MARKERS,
    PLOT,
    write_figure,
)

Models = Mapping[str, Evaluation]


def write_plots(models: Models, folder: Path) -> list[Path]:
    """Write every figure that the evaluations have numbers for, as NAME.pdf and NAME.png; equal input, equal bytes.

    precision_recall: at an IoU of 0.5 and 0.75, and the mean over all thresholds. ap_by_threshold: AP against the
    threshold, with 95 % intervals over videos. errors: what each type of error costs. occlusion: AP by level.

    Args:
        models: name -> evaluation; up to four, on the same ground truth.

    Raises:
        UserError: a file cannot be written.
    """
    assert 1 <= len(models) <= len(COLOURS), "one colour each"
    written = []
    with matplotlib.rc_context(PLOT):
        for name, draw in _figures(models):
            figure = Figure(figsize=(COLUMN_WIDTH, COLUMN_HEIGHT), layout="constrained")
            draw(figure, models)
            written += write_figure(figure, folder, name, PLOT)
    return written


def missing_plots(models: Models) -> list[str]:
    """Why there is no figure, for each figure that `write_plots` leaves out."""
    known = {key for evaluation in models.values() for key in evaluation.families}
    reasons = []
    if Key("AP", "all") not in known:
        reasons.append("precision_recall, ap_by_threshold, occlusion: need the metric ap")
    elif Key("AP", OCCLUSIONS[0]) not in known:
        reasons.append("occlusion: the ground truth does not say how occluded objects are")
    if Key(LOST_AP + ERROR_TYPES[0], "all") not in known:
        reasons.append("errors: needs the metric errors")
    return reasons


def _figures(models: Models) -> Iterator[tuple[str, Callable[[Figure, Models], None]]]:
    known = next(iter(models.values())).families
    if Key("AP", "all") in known:
        yield "precision_recall", _draw_precision_recall
        yield "ap_by_threshold", _draw_ap_by_threshold
    if Key(LOST_AP + ERROR_TYPES[0], "all") in known:
        yield "errors", _draw_errors
    if Key("AP", OCCLUSIONS[0]) in known:
        yield "occlusion", _draw_occlusion


def _draw_precision_recall(figure: Figure, models: Models) -> None:
    figure.set_size_inches(COLUMN_WIDTH, 1.75)
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    for number, (name, evaluation) in enumerate(models.items()):
        curves = np.mean([precision_recall(run.matches["all"]) for run in evaluation.runs], 0)
        for panel, curve in zip(panels, (curves[0], curves[5], curves.mean(0)), strict=True):
            panel.plot(100 * RECALL_POINTS, 100 * curve, LINES[number], color=COLOURS[number], label=name)
    for panel, title in zip(panels, ("IoU ≥ 0.5", "IoU ≥ 0.75", "mean, 0.5–0.95"), strict=True):
        panel.set(title=title, xlim=(0, 100), ylim=(0, 103), xticks=(0, 50, 100), yticks=(0, 50, 100))
    panels[0].set_ylabel("precision (%)")
    panels[1].set_xlabel("recall (%)")
    _legend(figure, panels[0], models)


def _draw_ap_by_threshold(figure: Figure, models: Models) -> None:
    axes = figure.subplots()
    for number, (name, evaluation) in enumerate(models.items()):
        values, low, high = _threshold_curve(evaluation)
        colour = COLOURS[number]
        axes.fill_between(IOU_THRESHOLDS, 100 * low, 100 * high, alpha=0.18, linewidth=0, color=colour)
        (line,) = axes.plot(IOU_THRESHOLDS, 100 * values, LINES[number], color=colour, label=name)
        line.set(marker=MARKERS[number], markersize=3)
    axes.set(xlabel="IoU threshold", ylabel="AP (%)", xticks=IOU_THRESHOLDS[::2])
    axes.set_ylim(bottom=0)
    _legend(figure, axes, models)


def _threshold_curve(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AP at each IoU threshold, and the ends of its basic intervals: (I,) each."""
    plan, matches = evaluation.plan, [run.matches["all"] for run in evaluation.runs]
    draws = video_draws(len(matches[0].video_ids), plan.replicates, plan.seed)
    values = np.mean([ap_by_threshold(each)[0] for each in matches], 0)
    tables = np.stack([ap_by_threshold(each, draws) for each in matches])  # (S, R, I)
    ends = []
    for i, value in enumerate(values):
        ends.append(basic_interval(float(value), mean_over_drawn_runs(tables[:, :, i], plan.seed)))
    return values, *np.transpose(ends)


def _draw_errors(figure: Figure, models: Models) -> None:
    axes = figure.subplots()
    keys = [Key(LOST_AP + name, "all") for name in ERROR_TYPES]
    _draw_bars(axes, models, keys, horizontal=True)
    axes.set(yticks=range(len(keys)), yticklabels=ERROR_TYPES, xlabel="AP$_{50}$ lost (percentage points)")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.axvline(0, color="0.3", linewidth=0.6)
    _legend(figure, axes, models)


def _draw_occlusion(figure: Figure, models: Models) -> None:
    axes = figure.subplots()
    keys = [Key("AP", "all"), *(Key("AP", scope) for scope in OCCLUSIONS)]
    _draw_bars(axes, models, keys)
    counts = next(iter(models.values())).videos
    labels = ["all objects", *(scope.rpartition(" ")[2] for scope in OCCLUSIONS)]
    shown = [f"{label}\n{counts[key]} videos" for label, key in zip(labels, keys, strict=True)]
    axes.set(xticks=range(len(keys)), xticklabels=shown, ylabel="AP (%)", ylim=(0, None))
    axes.grid(visible=False, axis="x")
    _legend(figure, axes, models)


def _draw_bars(axes: Axes, models: Models, keys: Sequence[Key], *, horizontal: bool = False) -> None:
    """Groups of bars, in percent, with intervals; nothing where the number is undefined."""
    thickness = 0.8 / len(models)
    for number, (name, evaluation) in enumerate(models.items()):
        places = np.arange(len(keys)) + (number - (len(models) - 1) / 2) * thickness
        values = 100 * np.array([evaluation.value(key) for key in keys])
        ends = 100 * np.array([evaluation.interval(key) for key in keys])
        look = {"color": COLOURS[number], "hatch": HATCHES[number], "edgecolor": "white", "linewidth": 0}
        draw, span = (axes.barh, axes.hlines) if horizontal else (axes.bar, axes.vlines)
        draw(places, values, 0.92 * thickness, label=name, **look)  # type: ignore[arg-type]
        span(places, ends[:, 0], ends[:, 1], color="black", linewidth=0.9)


def _legend(figure: Figure, axes: Axes, models: Models) -> None:
    """The names of the models, above the axes; of a single one too, as the figure has no other title."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(models), 2))
