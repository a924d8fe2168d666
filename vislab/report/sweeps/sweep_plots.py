"""A sweep as figures for a paper's column: what each axis does, what accuracy costs, how axes act together.

Shape letters: n trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vislab.report.figures.style import (
    COLOURS,
    COLUMN_HEIGHT,
    COLUMN_WIDTH,
    LINES,
    MARKERS,
    PAGE_WIDTH,
    PLOT,
    write_figure,
)
from vislab.report.sweeps.sweep_frame import Quantity, best_trials

_MOST_LINES = 4  # told apart by colour, line and marker
_MOST_CELLS = 20  # values of an axis of a heat map
_HEAT = "viridis"


@dataclass(frozen=True)
class Axis:
    """What was varied. label: on the figure's axis. log: whether on a logarithmic scale."""

    name: str
    label: str
    log: bool = False


@dataclass(frozen=True)
class Sweep:
    """What figures are drawn from.

    frame: as `sweep_frame` makes it. quantities: those that figures may show; objectives: those that were searched for,
    the first one on most figures. importances: objective -> axis -> share in percent. importance_label: how these were
    found.
    """

    frame: pd.DataFrame
    axes: Sequence[Axis]
    quantities: Sequence[Quantity]
    objectives: Sequence[Quantity]
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    importance_label: str = "importance (%)"

    @property
    def complete(self) -> pd.DataFrame:
        return self.frame[self.frame["state"] == "complete"]


def write_sweep_plots(sweep: Sweep, folder: Path) -> list[Path]:
    """Write every figure that the trials have numbers for, as NAME.pdf and NAME.png; equal input, equal bytes.

    OBJECTIVE_by_AXIS: with 95 % intervals, and lines where another axis has few values. GAIN_by_COST: with the Pareto
    front. OBJECTIVE_AXIS_AXIS: heat maps. importances and parallel_coordinates of two axes or more. Raises UserError
    for what cannot be written.
    """
    written = []
    for name, draw in _figures(sweep):
        with matplotlib.rc_context(PLOT):
            figure = Figure(figsize=(COLUMN_WIDTH, COLUMN_HEIGHT), layout="constrained")
            draw(figure)
            written += write_figure(figure, folder, _file_name(name), PLOT)
    return written


def missing_sweep_plots(sweep: Sweep) -> list[str]:
    """Why there is no figure, for each kind that is left out."""
    if len(sweep.complete) < 2:
        return ["anything: fewer than two trials are complete"]
    names = {name.partition(" ")[0] for name, _ in _figures(sweep)}
    reasons = []
    if "cost" not in names:
        reasons.append("accuracy by cost: no trial has both numbers, or all have equal ones")
    if "heat" not in names:
        reasons.append(f"heat maps: need two axes with 2 to {_MOST_CELLS} values each")
    if "importances" not in names:
        reasons.append("importances: need two axes and enough different trials")
    return reasons


def _figures(sweep: Sweep) -> Iterator[tuple[str, Callable[[Figure], None]]]:
    """Kind and file name, separated by a space, and what draws it."""
    trials = sweep.complete
    if len(trials) < 2:
        return
    varied = [axis for axis in sweep.axes if trials[axis.name].nunique(dropna=False) > 1]
    for quantity, axis in itertools.product(sweep.objectives, varied):
        yield f"axis {quantity.name}_by_{axis.name}", partial(_draw_axis, sweep=sweep, quantity=quantity, axis=axis)
    gains = [each for each in sweep.quantities if each.more_is_better and each.name in trials]
    costs = [each for each in sweep.quantities if not each.more_is_better and each.name in trials]
    for gain, cost in itertools.product(gains, costs):
        wanted = gain in sweep.objectives and (cost in sweep.objectives or cost.name == "GFLOPs")
        if wanted and trials[cost.name].nunique() > 1:
            yield f"cost {gain.name}_by_{cost.name}", partial(_draw_cost, sweep=sweep, gain=gain, cost=cost)
    few = [axis for axis in varied if trials[axis.name].nunique(dropna=False) <= _MOST_CELLS]
    for quantity, (first, second) in itertools.product(sweep.objectives, itertools.combinations(few, 2)):
        name = f"heat {quantity.name}_{first.name}_{second.name}"
        yield name, partial(_draw_heat, trials=trials, quantity=quantity, axes=(first, second))
    if any(sweep.importances.values()):
        yield "importances importances", partial(_draw_importances, sweep=sweep)
    if len(varied) > 1:
        yield "parallel parallel_coordinates", partial(_draw_parallel, sweep=sweep, axes=varied)


def _draw_axis(figure: Figure, sweep: Sweep, quantity: Quantity, axis: Axis) -> None:
    """Points with intervals; lines through equal values of another axis if there is one with few values, else the
    means over everything else."""
    panel, trials = figure.subplots(), sweep.complete
    places, ticks = _places(trials[axis.name])
    points = trials.assign(place=places)
    ordered = all(map(_is_number, trials[axis.name]))  # others stand side by side, with nothing between them
    split = _splitting_axis(sweep, axis)
    if split is None:
        _draw_points(panel, points, quantity, COLOURS[0], MARKERS[0])
        means = points.groupby("place")[quantity.name].mean()
        if len(means) < len(points):
            look: dict[str, Any] = {"linestyle": "-"} if ordered else {"marker": "_", "markersize": 14, "linestyle": ""}
            panel.plot(means.index, means.to_numpy(), color="0.2", label="mean over the others", **look)
    else:
        step = 0.0 if axis.log else 0.02 * float(places.max() - places.min())
        for number, (value, group) in enumerate(points.groupby(split.name, dropna=False)):
            shift = (number - (trials[split.name].nunique(dropna=False) - 1) / 2) * step
            means = group.groupby("place")[quantity.name].mean()
            look = {"color": COLOURS[number], "linestyle": LINES[number] if ordered else "", "marker": MARKERS[number]}
            label = f"{split.label} {_text(value)}"
            panel.plot(means.index + shift, means.to_numpy(), markersize=3, label=label, **look)
            _draw_points(panel, group, quantity, COLOURS[number], MARKERS[number], shift=shift)
    _set_ticks(panel, ticks, axis)
    panel.set(xlabel=axis.label, ylabel=quantity.label)
    _legend(figure, panel)


def _splitting_axis(sweep: Sweep, axis: Axis) -> Axis | None:
    """The one other axis that varies, if its lines can be told apart."""
    trials = sweep.complete
    others = [other for other in sweep.axes if other.name != axis.name and trials[other.name].nunique(dropna=False) > 1]
    if len(others) != 1 or trials[others[0].name].nunique(dropna=False) > _MOST_LINES:
        return None
    return others[0]


def _draw_points(
    panel: Axes, trials: pd.DataFrame, quantity: Quantity, colour: Any, marker: str, label: str = "", shift: float = 0.0
) -> None:
    """With 95 % intervals over seeds and videos, where there are any; shifted sideways, so that none hides another."""
    values, places = trials[quantity.name].to_numpy(float), trials["place"].to_numpy(float) + shift
    low, high = (trials[f"{quantity.name}_{end}"].to_numpy(float) for end in ("ci_low", "ci_high"))
    panel.vlines(places, low, high, color=colour, linewidth=0.8)
    panel.plot(places, values, marker, color=colour, markersize=3, label=label or None)


def _draw_cost(figure: Figure, sweep: Sweep, gain: Quantity, cost: Quantity) -> None:
    panel, trials = figure.subplots(), sweep.complete
    points = trials.assign(place=trials[cost.name])
    front = points[best_trials(points, {gain.name: True, cost.name: False})].sort_values("place")
    panel.step(front["place"], front[gain.name], where="post", color=COLOURS[1], label="Pareto front (trial no.)")
    _draw_points(panel, points, gain, "0.6", MARKERS[0], "trial")
    _draw_points(panel, front, gain, COLOURS[1], MARKERS[1])
    for _, trial in front.iterrows():
        place = trial["place"], trial[gain.name]
        panel.annotate(str(trial["trial"]), place, (2, 3), textcoords="offset points", fontsize=6)
    panel.set(xlabel=cost.label, ylabel=gain.label)
    panel.margins(x=0.1)
    _legend(figure, panel)


def _draw_heat(figure: Figure, trials: pd.DataFrame, quantity: Quantity, axes: tuple[Axis, Axis]) -> None:
    """Means of the trials in each cell; empty where there is none."""
    across, down = axes
    table = trials.pivot_table(quantity.name, down.name, across.name, aggfunc="mean", dropna=False)
    table = table.sort_index(ascending=False)
    panel = figure.subplots()
    values = table.to_numpy(float)
    image = panel.imshow(np.ma.masked_invalid(values), cmap=_HEAT, aspect="auto")
    if values.size <= 60:
        middle = np.nanmin(values) + 0.6 * (np.nanmax(values) - np.nanmin(values))
        for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
            value = values[row, column]
            colour = "black" if value > middle else "white"
            panel.text(column, row, f"{value:#.3g}".rstrip("."), ha="center", va="center", color=colour, fontsize=6)
    panel.set_xticks(range(len(table.columns)), [_text(value) for value in table.columns], **_turned(table.columns))
    panel.set_yticks(range(len(table.index)), [_text(value) for value in table.index])
    panel.set(xlabel=across.label, ylabel=down.label)
    panel.grid(visible=False)
    figure.colorbar(image, ax=panel, label=quantity.label)


def _draw_importances(figure: Figure, sweep: Sweep) -> None:
    panel = figure.subplots()
    shown = {name: shares for name, shares in sweep.importances.items() if shares}
    names = list(dict.fromkeys(name for shares in shown.values() for name in shares))
    labels = {axis.name: axis.label for axis in sweep.axes}
    thickness = 0.8 / len(shown)
    for number, (objective, shares) in enumerate(shown.items()):
        places = np.arange(len(names)) + (number - (len(shown) - 1) / 2) * thickness
        panel.barh(places, [shares.get(name, 0.0) for name in names], 0.92 * thickness,
            color=COLOURS[number % len(COLOURS)], label=objective)  # fmt: skip
    panel.set(xlabel=sweep.importance_label, xlim=(0, 100))
    panel.set_yticks(range(len(names)), [labels.get(name, name) for name in names])
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")
    _legend(figure, panel)


def _draw_parallel(figure: Figure, sweep: Sweep, axes: Sequence[Axis]) -> None:
    """A line for each trial over all axes and objectives, coloured by the first objective."""
    trials, first = sweep.complete, sweep.objectives[0]
    figure.set_size_inches(PAGE_WIDTH if len(axes) + len(sweep.objectives) > 3 else COLUMN_WIDTH, COLUMN_HEIGHT)
    columns = [_scaled(trials[axis.name], axis.log) for axis in axes]
    columns += [_scaled(trials[each.name], False) for each in sweep.objectives]
    labels = [axis.label for axis in axes] + [each.label for each in sweep.objectives]
    panel = figure.subplots()
    values = trials[first.name].to_numpy(float)
    colours = matplotlib.colormaps[_HEAT](_unit(values))
    order = np.argsort(values if first.more_is_better else -values, kind="stable")  # the best ones on top
    heights = np.stack([column for column, _ in columns], 1)  # (n, axes)
    for trial in order:
        panel.plot(range(len(columns)), heights[trial], color=colours[trial], linewidth=0.9)
    for place, (_, ticks) in enumerate(columns):
        panel.axvline(place, color="0.3", linewidth=0.6)
        for height, text in ticks:
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
            panel.annotate(text, (place, height), (2, 0), textcoords="offset points", fontsize=6, va="center", bbox=box)
    panel.set_xticks(range(len(columns)), labels)
    panel.set(yticks=[], xlim=(-0.05, len(columns) - 1 + 0.25), ylim=(-0.05, 1.05))
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.grid(visible=False)


def _scaled(values: pd.Series, log: bool) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Heights in [0, 1], (n,), and the ticks of their axis."""
    places, ticks = _places(values)
    numbers = np.log10(places) if log and (places > 0).all() else places
    if ticks is None:
        known = [float(places.min()), float(places.max())]
        return _unit(numbers), [(0.0, _text(known[0])), (1.0, _text(known[1]))]
    spread = max(float(numbers.max() - numbers.min()), 1e-12)
    shown = [(np.log10(place) if log and place > 0 else place, text) for place, text in ticks]
    return _unit(numbers), [((place - numbers.min()) / spread, text) for place, text in shown]


def _unit(values: np.ndarray) -> np.ndarray:
    spread = np.nanmax(values) - np.nanmin(values)
    return (values - np.nanmin(values)) / spread if spread > 0 else np.full(len(values), 0.5)


def _places(values: pd.Series) -> tuple[np.ndarray, list[tuple[float, str]] | None]:
    """Where values lie on an axis, (n,), and its ticks if they are few: numbers at themselves, others side by side."""
    distinct = list(dict.fromkeys(values.tolist()))
    if all(map(_is_number, distinct)):
        few = len(distinct) <= 8
        return values.to_numpy(float), [(float(value), _text(value)) for value in sorted(distinct)] if few else None
    order = sorted(distinct, key=_text)
    places = np.array([float(order.index(value)) for value in values])
    return places, [(float(place), _text(value)) for place, value in enumerate(order)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _set_ticks(panel: Axes, ticks: list[tuple[float, str]] | None, axis: Axis) -> None:
    if axis.log:
        panel.set_xscale("log")
    elif ticks is not None:
        panel.set_xticks(
            [place for place, _ in ticks], [text for _, text in ticks], **_turned(text for _, text in ticks)
        )
        panel.margins(x=0.08)


def _turned(labels: Iterable[Any]) -> dict[str, Any]:
    """Long labels do not fit side by side."""
    return {"rotation": 20, "ha": "right"} if sum(len(_text(label)) + 2 for label in labels) > 40 else {}


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None or value != value:
        return "none" if value is None or value != value else str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value).removesuffix("Config")


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if len(labels) > 0:
        figure.legend(handles, labels, loc="outside upper center", ncols=2 if len(labels) == 4 else min(len(labels), 3))


def _file_name(name: str) -> str:
    """The kind is not part of it, and dotted paths are no suffixes."""
    return name.partition(" ")[2].replace(".", "_").replace("/", "_")
