"""Speed of kernels and of the evaluation as bars: how many times as fast as a reference that ran beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vislab.errors import UserError
from vislab.report.figures.style import COLOURS, COLUMN_WIDTH, HATCHES, PAGE_WIDTH, PLOT

_NEEDED = ("case", "competitor", "ratio", "reference")
_BAR = 0.115  # inches, of a bar's height
_MOST = len(COLOURS)


def read_benchmark(path: Path) -> pd.DataFrame:
    """A benchmark's file. Raises UserError for one that has no ratios."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a benchmark ({error})") from None
    missing = [name for name in _NEEDED if name not in frame.columns]
    if missing or not len(frame):
        raise UserError(f"{path}: {'has no column ' + ', '.join(missing) if missing else 'holds no row'}")
    return frame


def draw_benchmark(frame: pd.DataFrame) -> Figure:
    """Bars on a logarithmic axis; the reference is at 1. What was measured with most threads is shown.

    A panel for each pass, cases below each other, a bar for each competitor, where all cases have the same ones (the
    four that take part in most cases); otherwise a bar with a name of its own for each.

    frame: as `read_benchmark` gives it.
    """
    if "threads" in frame:
        frame = frame[frame["threads"] == frame.groupby("case")["threads"].transform("max")]
    others = frame[frame["competitor"] != frame["reference"]]
    with matplotlib.rc_context(PLOT):
        if others["case"].nunique() > 1 and others["reference"].nunique() > 1:
            return _named_bars(others)
        return _grouped_bars(others)


def _grouped_bars(frame: pd.DataFrame) -> Figure:
    counts = frame["competitor"].value_counts()
    competitors = [name for name in frame["competitor"].unique() if name in counts.index[:_MOST]]
    cases = list(frame["case"].unique())
    passes = list(frame["pass"].unique()) if "pass" in frame else [""]
    height = 0.7 + _BAR * len(cases) * (len(competitors) + 1)
    figure = Figure(figsize=(PAGE_WIDTH if len(passes) > 1 else COLUMN_WIDTH, height), layout="constrained")
    panels = figure.subplots(1, len(passes), sharey=True, sharex=True, squeeze=False)[0]
    thickness = 1 / (len(competitors) + 1)
    for panel, title in zip(panels, passes, strict=True):
        part = frame[frame["pass"] == title] if title else frame
        for number, name in enumerate(competitors):
            ratios = part[part["competitor"] == name].set_index("case")["ratio"].reindex(cases)
            places = np.arange(len(cases)) + (number - (len(competitors) - 1) / 2) * thickness
            _bars(panel, places, ratios.to_numpy(), 0.9 * thickness, number, name)
        panel.set(title=title, yticks=range(len(cases)), yticklabels=cases)
        panel.set_xlabel(f"times as fast as {frame['reference'].iloc[0]}")
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 2 * len(passes)))
    return figure


def _named_bars(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(COLUMN_WIDTH, 0.6 + 2.6 * _BAR * len(frame)), layout="constrained")
    axes = figure.subplots()
    _bars(axes, np.arange(len(frame)), frame["ratio"].to_numpy(), 0.6, 0, "")
    names = [f"{name}\nagainst {reference}" for name, reference in frame[["competitor", "reference"]].to_numpy()]
    axes.set(yticks=range(len(frame)), yticklabels=names, xlabel="times as fast")
    axes.invert_yaxis()
    return figure


def _bars(
    axes: Axes, places: Sequence[float] | np.ndarray, ratios: np.ndarray, thickness: float, number: int, name: str
) -> None:
    """Bars from 1, with their ratios at their ends."""
    look = {"color": COLOURS[number], "hatch": HATCHES[number], "edgecolor": "white", "linewidth": 0}
    axes.barh(places, ratios - 1, thickness, left=1, label=name, **look)  # type: ignore[arg-type]
    for place, ratio in zip(places, ratios, strict=True):
        if np.isfinite(ratio):
            axes.annotate(
                f"{ratio:.3g}", (max(ratio, 1.0), place), (2, 0), textcoords="offset points", va="center", fontsize=5
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter("")
    axes.axvline(1, color="0.3", linewidth=0.6)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
