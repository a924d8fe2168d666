"""A table whose rows turn one knob, as curves: metric against the knob, with what seeds and videos leave open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vislab.errors import UserError
from vislab.report.figures.style import COLOURS, COLUMN_WIDTH, LINES, MARKERS, PLOT

_PANEL = 1.75  # inches, of a panel's height


def draw_knob(frame: pd.DataFrame, knob: str, places: Mapping[int, float], metrics: Sequence[str]) -> Figure:
    """A panel for each metric, two in a row; a line for each data set.

    Points are means over seeds; bars their standard deviation, the band the 95 % bootstrap interval over videos.

    Args:
        frame: a table's report, as `files.read_table` gives it.
        knob: what the x axis shows.
        places: row -> where it lies on that axis.
        metrics: those that have no measured row are left out.

    Raises:
        UserError: no row has a measured number.
    """
    measured = frame[(frame["status"] == "measured") & frame["row"].isin(list(places))]
    shown = [metric for metric in metrics if (measured["metric"] == metric).any()]
    if not shown:
        wanted = f"{frame['paper'].iloc[0]} {frame['table'].iloc[0]} at scale {frame['scale'].iloc[0]}"
        raise UserError(f"no measured row of {wanted} to draw; run it with reproduce_table.py")
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    with matplotlib.rc_context(PLOT):
        figure = Figure(figsize=(COLUMN_WIDTH * columns, _PANEL * lines + 0.3), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for panel, metric in zip(panels, shown, strict=False):
            _draw(panel, measured[measured["metric"] == metric], places)
            panel.set(ylabel=metric, xlabel=knob)
        for panel in panels[len(shown) :]:
            panel.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _draw(axes: Axes, cells: pd.DataFrame, places: Mapping[int, float]) -> None:
    for number, (dataset, found) in enumerate(cells.groupby("dataset", sort=False)):
        points = found.assign(place=found["row"].map(places)).sort_values("place")
        look = number % len(COLOURS)
        axes.fill_between(
            points["place"], points["ci_low"], points["ci_high"], color=COLOURS[look], alpha=0.15, linewidth=0
        )
        axes.errorbar(
            points["place"], points["measured"], points["std"].fillna(0.0), fmt=LINES[look] + MARKERS[look],
            color=COLOURS[look], label=str(dataset), capsize=2, markersize=3, elinewidth=0.8,
        )  # fmt: skip
    axes.set_xticks(sorted(set(cells["row"].map(places))))
