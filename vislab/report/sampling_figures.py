"""Where the queries of a clip look, drawn over its frames: sampling points with their weights, and reference points.

Figures for a paper's page: vector PDF over the frames' pixels, and PNG. Coordinates are (x, y) in pixels of the frames.

Shape letters: T frames, P points, H W frame size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vislab.errors import UserError
from vislab.records import atomic_path

__all__ = ["FrameSamples", "QueryView", "draw_references", "draw_samples", "write_figure"]

_WIDTH = 6.9  # inches; the width of a page of CVPR, ICCV and ECCV
_MOST_PIXELS = 320  # across a frame
_TITLE, _GAP = 0.2, 0.03  # inches above a row for its title, and between frames
_RED, _YELLOW = "#d7191c", "#ffe14d"
_WEIGHTS = LinearSegmentedColormap.from_list("weights", ["#3b0f70", "#de4968", "#fecf92", "#fcfdbf"])
_STYLE: Any = {
    "font.size": 7,
    "axes.titlesize": 7,
    "pdf.fonttype": 42,  # TrueType: searchable, and accepted by every publisher
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class FrameSamples:
    """What one query samples on one frame. reference: (2,) point or (4,) box as centre and size. points: (P, 2).
    weights: (P,), of all frames together adding up to 1."""

    reference: np.ndarray
    points: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class QueryView:
    """One row of a figure: a query and what it samples on the T frames. frame: the one that the query belongs to."""

    title: str
    frame: int
    samples: tuple[FrameSamples, ...]


def draw_samples(frames: np.ndarray, queries: Sequence[QueryView]) -> Figure:
    """Sampling points of queries over all frames of their clip, a row each: the brighter and larger, the more weight.

    frames: (T, H, W, 3) uint8. Red dots are reference points; the frame that the query belongs to has a red border;
    each panel says which share of the weight its frame has. DeVIS (Caelles et al.), Fig. 2.
    """
    figure, panels = _grid(frames, queries)
    heaviest = max(float(sample.weights.max(initial=0.0)) for query in queries for sample in query.samples) or 1.0
    for row, query in zip(panels, queries, strict=True):
        for t, (axes, sample) in enumerate(zip(row, query.samples, strict=True)):
            relative = sample.weights / heaviest
            order = np.argsort(relative, kind="stable")  # the heaviest on top
            x, y = sample.points[order].T
            axes.scatter(
                x, y, s=1 + 9 * relative[order], c=relative[order], cmap=_WEIGHTS, vmin=0, vmax=1, alpha=0.85,
                linewidths=0.2, edgecolors="black",
            )  # fmt: skip
            _mark(axes, sample.reference, "o", own=t == query.frame)
            axes.text(
                0.98, 0.04, f"{100 * float(sample.weights.sum()):.0f} %", transform=axes.transAxes, ha="right",
                color="white", fontsize=6, bbox={"facecolor": "black", "alpha": 0.55, "pad": 1, "linewidth": 0},
            )  # fmt: skip
    return figure


def draw_references(frames: np.ndarray, layers: Sequence[QueryView]) -> Figure:
    """Reference points of one query on all frames of its clip, a row for each decoder layer, as crosses; where the
    layer starts from boxes, these too. Points and weights are not drawn. DeVIS (Caelles et al.), Fig. A.5.

    frames: (T, H, W, 3) uint8.
    """
    figure, panels = _grid(frames, layers)
    for row, layer in zip(panels, layers, strict=True):
        for t, (axes, sample) in enumerate(zip(row, layer.samples, strict=True)):
            _mark(axes, sample.reference, "x", own=t == layer.frame)
    return figure


def write_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write NAME.pdf and NAME.png; equal figures give equal bytes. Raises UserError for what cannot be written."""
    written = []
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        path = folder / f"{name}.{kind}"
        try:
            with matplotlib.rc_context(_STYLE), atomic_path(path) as temporary:
                figure.savefig(temporary, format=kind, metadata=metadata)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
        written.append(path)
    return written


def _grid(frames: np.ndarray, rows: Sequence[QueryView]) -> tuple[Figure, list[list[Axes]]]:
    """A panel for each row and frame, showing the frame; the row's title stands above its first panel."""
    count, height, width = frames.shape[:3]
    assert rows and all(len(row.samples) == count for row in rows), "one sample per frame"
    panel_width = (_WIDTH - (count - 1) * _GAP) / count
    panel_height = panel_width * height / width
    full_height = len(rows) * (panel_height + _TITLE + _GAP)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, full_height))
        panels = []
        for number, row in enumerate(rows):
            bottom = full_height - (number + 1) * (panel_height + _TITLE) - number * _GAP
            places = [
                (
                    t * (panel_width + _GAP) / _WIDTH,
                    bottom / full_height,
                    panel_width / _WIDTH,
                    panel_height / full_height,
                )
                for t in range(count)
            ]
            panels.append([_panel(figure, place, frame) for place, frame in zip(places, frames, strict=True)])
            panels[-1][0].set_title(row.title, loc="left", pad=2)
    return figure, panels


def _panel(figure: Figure, place: tuple[float, float, float, float], frame: np.ndarray) -> Axes:
    height, width = frame.shape[:2]
    shrink = min(1.0, _MOST_PIXELS / width)  # what print does not show only makes the file large
    picture = Image.fromarray(frame).resize((round(width * shrink), max(1, round(height * shrink))))
    axes = figure.add_axes(place)
    axes.imshow(np.asarray(picture), extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _mark(axes: Axes, reference: np.ndarray, marker: str, *, own: bool) -> None:
    """A reference point or box, and a border around the query's own frame."""
    x, y = reference[:2]
    if marker == "o":
        axes.plot(x, y, "o", color=_RED, markersize=3.5, markeredgecolor="white", markeredgewidth=0.5)
    else:
        axes.plot(x, y, "x", color="white", markersize=6, markeredgewidth=2.4)
        axes.plot(x, y, "x", color=_RED, markersize=5.5, markeredgewidth=1.2)
    if len(reference) == 4:
        width, height = reference[2:]
        corner = (x - width / 2, y - height / 2)
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=_YELLOW, linewidth=0.7))
    if own:
        for spine in axes.spines.values():
            spine.set(visible=True, edgecolor=_RED, linewidth=1.4)
