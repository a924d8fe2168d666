"""What trainings noted down as they went, as curves: losses, learning rate, gradient norm; bands over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vislab.errors import UserError
from vislab.report.figures.style import COLUMN_WIDTH, PAGE_WIDTH, PLOT, line_look

_PANEL = 1.5  # inches, of a panel's height
_LEGEND_LINE, _HANDLE, _CHARACTER = 0.16, 0.6, 0.056  # inches: a line of names, what stands beside a name, a letter
_AUXILIARY = "auxiliary losses"  # of the layers before the last one, all together
_TITLES = {"loss": "loss, all terms", "learning_rate": "learning rate", "gradient_norm": "gradient norm"}


@dataclass(frozen=True)
class Series:
    """Trainings that differ in their seed. journals: of each seed, as `read_journal` gives them."""

    label: str
    journals: tuple[pd.DataFrame, ...]


def read_journal(path: Path) -> pd.DataFrame:
    """A training's metrics.jsonl, by step: loss, learning_rate, gradient_norm, every term of the loss by its own name,
    and `auxiliary losses`, the sum of the terms with a slash in their name. Empty if there is no such file.

    Half a line at the end, of a training that was killed as it wrote, does not count.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rows = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            record = json.loads(line)
            terms = {name: value for name, value in record["losses"].items() if "/" not in name}
            auxiliary = sum(value for name, value in record["losses"].items() if "/" in name)
            known = {name: record[name] for name in ("step", *_TITLES)}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path}, line {number}: not what a training writes") from None
        rows.append(known | terms | ({_AUXILIARY: auxiliary} if len(terms) < len(record["losses"]) else {}))
    return pd.DataFrame(rows, columns=None if rows else ["step", *_TITLES]).set_index("step")


def draw_quantities(series: Sequence[Series]) -> Figure | None:
    """A panel for each quantity that was noted, across a page; None if none was."""
    series = _noted(series)
    terms = dict.fromkeys(name for each in series for journal in each.journals for name in journal.columns)
    names = ["loss", *(name for name in terms if name not in _TITLES), "learning_rate", "gradient_norm"]
    if not series:
        return None
    columns = min((4, 3, 5), key=lambda columns: -len(names) % columns)
    with matplotlib.rc_context(PLOT):
        figure, panels = _panels(-(-len(names) // columns), columns, PAGE_WIDTH, [each.label for each in series])
        for panel, name in zip(panels, names, strict=False):
            panel.set_title(_TITLES.get(name, name))
            _draw(panel, series, name, [each.label for each in series])
        for panel in panels[len(names) :]:
            panel.set_visible(False)
        for panel in panels[max(0, len(names) - columns) : len(names)]:
            panel.set_xlabel("training step")
    return figure


def draw_losses(panels: Mapping[str, Sequence[Series]]) -> Figure:
    """The whole loss: a panel for each data set, below each other in a column. Raises UserError without any journal.

    Lines are means over seeds, bands their standard deviation.
    """
    shown = {title: noted for title, series in panels.items() if (noted := _noted(series))}
    if not shown:
        raise UserError("no training of these rows is in the run store; run them with reproduce_table.py")
    labels = list(dict.fromkeys(each.label for series in shown.values() for each in series))
    with matplotlib.rc_context(PLOT):
        figure, axes = _panels(len(shown), 1, COLUMN_WIDTH, labels)
        for panel, (title, series) in zip(axes, shown.items(), strict=True):
            _draw(panel, series, "loss", labels)
            panel.set(title=title, ylabel="training loss")
        axes[-1].set_xlabel("training step")
    return figure


def _noted(series: Sequence[Series]) -> list[Series]:
    return [each for each in series if any(len(journal) for journal in each.journals)]


def _panels(rows: int, columns: int, width: float, labels: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with its axes and, where there are several series, their names above."""
    beside = max(1, min(4, int(width / (_HANDLE + _CHARACTER * max(map(len, labels))))))
    lines = -(-len(labels) // beside) if len(labels) > 1 else 0
    figure = Figure(figsize=(width, _PANEL * rows + _LEGEND_LINE * lines + 0.3), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    if lines:
        handles = [Line2D([], [], **line_look(number)) for number in range(len(labels))]
        figure.legend(handles, labels, loc="outside upper center", ncols=beside)
    return figure, axes


def _draw(axes: Axes, series: Sequence[Series], quantity: str, labels: Sequence[str]) -> None:
    """labels: of all series on the figure, which have a look each."""
    for each in series:
        columns = [journal[quantity] for journal in each.journals if quantity in journal]
        if not columns:
            continue
        table = pd.concat(columns, axis=1, join="inner")
        mean, look = table.mean(axis=1), line_look(labels.index(each.label))
        if len(columns) > 1:
            std = table.std(axis=1)
            axes.fill_between(table.index, mean - std, mean + std, color=look["color"], alpha=0.18, linewidth=0)
        axes.plot(table.index, mean, label=each.label, **look)
    axes.set_ylim(bottom=0)
    if quantity == "learning_rate" and (top := axes.get_ylim()[1]) > 0:
        power = math.floor(math.log10(top))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value / 10**power:g}")
        axes.set_title(f"learning rate ($10^{{{power}}}$)")
