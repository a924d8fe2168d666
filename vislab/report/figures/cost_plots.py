"""A table's rows as points: AP against what they cost."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vislab.errors import UserError
from vislab.report.figures.style import COLOURS, COLUMN_WIDTH, MARKERS, PAGE_WIDTH, PLOT
from vislab.report.tables.views import heading

_COSTS = ("params_M", "params_unique_M", "GFLOPs", "train_minutes")
_PANEL, _LINE = 1.9, 0.14  # inches: height of the panels, and of a line of the key


def draw_costs(frame: pd.DataFrame) -> Figure:
    """A panel for each cost that is known and differs between rows by 1 % at least, at most three side by side.

    Points are means over seeds, numbered by row, bars 95 % bootstrap intervals over videos.

    Args:
        frame: a table's report, as `files.read_table` gives it.

    Raises:
        UserError: no row has both AP and a cost.
    """
    points = {cost: found for cost in _COSTS if _differs((found := _points(frame, cost))["cost"])}
    if not points:
        name = f"{frame['paper'].iloc[0]} {frame['table'].iloc[0]} at scale {frame['scale'].iloc[0]}"
        raise UserError(f"no measured rows of {name} that differ in a cost; run it with reproduce_table.py")
    shown = list(points.items())[:3]
    rows = dict(zip(frame["row"], frame["label"], strict=True))
    measured = sorted({int(row) for _, found in shown for row in found["row"]})
    key = [f"{row}  {rows[row]}" for row in measured]
    width = COLUMN_WIDTH if len(shown) == 1 else PAGE_WIDTH
    columns = 1 if len(shown) == 1 else 2
    lines = -(-len(key) // columns)
    height = _PANEL + 0.25 + _LINE * lines
    with matplotlib.rc_context(PLOT):
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for panel, (cost, found) in zip(panels, shown, strict=True):
            _draw(panel, found)
            panel.set(xlabel=heading(cost))
        panels[0].set_ylabel("AP")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        _write_key(figure, key, columns, lines)
    return figure


def _points(frame: pd.DataFrame, cost: str) -> pd.DataFrame:
    """AP with its interval of every measured row and data set, and the cost, which may be known for any data set."""
    measured = frame[(frame["metric"] == "AP") & (frame["status"] == "measured")]
    known = frame[(frame["metric"] == cost) & frame["measured"].notna()]
    by_place = {(row, dataset): value for row, dataset, value in known[["row", "dataset", "measured"]].values}
    costs = [
        by_place.get((row, dataset), by_place.get((row, "")))
        for row, dataset in zip(measured["row"], measured["dataset"], strict=True)
    ]
    return measured.assign(cost=pd.Series(costs, index=measured.index, dtype=float)).dropna(subset=["cost", "measured"])


def _differs(costs: pd.Series) -> bool:
    return len(costs) > 0 and bool(costs.max() >= 1.01 * costs.min() > 0)


def _draw(axes: Axes, found: pd.DataFrame) -> None:
    for number, (dataset, points) in enumerate(found.groupby("dataset", sort=False)):
        colour = COLOURS[number % len(COLOURS)]
        axes.vlines(points["cost"], points["ci_low"], points["ci_high"], color=colour, linewidth=0.8)
        axes.plot(
            points["cost"], points["measured"], MARKERS[number % len(MARKERS)], color=colour, markersize=3.5,
            label=str(dataset),
        )  # fmt: skip
        for row, cost, value in points[["row", "cost", "measured"]].values:
            axes.annotate(f"{row:.0f}", (cost, value), (3, 2), textcoords="offset points", fontsize=6, color=colour)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=5)


def _write_key(figure: Figure, key: list[str], columns: int, lines: int) -> None:
    """The rows' labels, at the foot of the figure."""
    engine = figure.get_layout_engine()
    height = figure.get_size_inches()[1]
    foot = _LINE * lines / height
    assert engine is not None
    engine.set(rect=(0, foot, 1, 1 - foot))  # type: ignore[call-arg]
    for position, text in enumerate(key):
        column, line = divmod(position, lines)
        figure.text(
            0.02 + column / columns, foot - (line + 0.75) * _LINE / height, text, fontsize=6, parse_math=False
        )  # fmt: skip
