"""Consistency of identities against how many tracks count: a line for each row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from vislab.metrics.frame_overlap import SCORE_THRESHOLD
from vislab.metrics.mot import MotCounts
from vislab.metrics.numbers import is_count
from vislab.metrics.statistics import mean_and_std
from vislab.report.figures.style import MARKERS, PAGE_WIDTH, PLOT, line_look
from vislab.report.runs.track_levels import MEASURES, RowLevels

_HEIGHT = 2.1  # inches
_LABEL = 60  # characters of a line in the key
_MARK = f"all tracks that score {SCORE_THRESHOLD:g} or more"
_MARK_LOOK: Any = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
_NAMES = {"IDF1": "IDF1", "MOTA": "MOTA", "IDs": "identity switches (IDs)"}


def draw_levels(rows: Sequence[RowLevels]) -> Figure:
    """A panel for each of IDF1, MOTA and identity switches: means over seeds, bands their standard deviation.

    Marks are the tables' own score threshold.
    """
    columns = 1 if max(len(row.label) for row in rows) > _LABEL else 2
    with matplotlib.rc_context(PLOT):
        key_height = 0.14 * -(-(len(rows) + 1) // columns)
        figure = Figure(figsize=(PAGE_WIDTH, _HEIGHT + key_height), layout="constrained")
        panels = figure.subplots(1, len(MEASURES))
        for panel, name in zip(panels, MEASURES, strict=True):
            for number, row in enumerate(rows):
                _draw(panel, row, name, number)
            panel.axvline(1, color="0.5", linewidth=0.6, zorder=0)
            panel.set(title=_NAMES[name], xscale="log")
            panel.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        figure.supxlabel("tracks that count, per labelled object", fontsize=8)
        lines, _ = panels[0].get_legend_handles_labels()
        mark = Line2D([], [], label=_MARK, linestyle="", color="0.35", **_MARK_LOOK, marker=MARKERS[0])
        figure.legend(handles=[*lines, mark], loc="outside upper center", ncols=columns)
    return figure


def _draw(axes: Axes, row: RowLevels, name: str, number: int) -> None:
    values = np.array([_values(each.counts, name) for each in row.levels])
    look = line_look(number)
    means, spreads = values.mean(0), np.nan_to_num([mean_and_std(column)[1] for column in values.T])
    axes.fill_between(row.ratios, means - spreads, means + spreads, color=look["color"], alpha=0.18, linewidth=0)
    axes.plot(row.ratios, means, label=fill(row.label, _LABEL), **look)
    if row.usual_ratio:
        look |= _MARK_LOOK | {"linestyle": ""}
        axes.plot(row.usual_ratio, _values(row.usual, name).mean(), MARKERS[number % len(MARKERS)], **look)


def _values(counts: Sequence[MotCounts], name: str) -> np.ndarray:
    found = np.array([float(each.summaries(None, [name])[name][0]) for each in counts])
    return found if is_count(name) else 100 * found
