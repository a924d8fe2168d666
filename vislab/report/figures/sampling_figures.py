"""Where the queries of a clip look, drawn over its frames: sampling points with their weights, and reference points.

Figures for a paper's page: vector PDF over the frames' pixels, and PNG. Coordinates are (x, y) in pixels of the frames.

Shape letters: T frames, P points, H W frame size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vislab.report.figures.frame_panels import draw_border, frame_grid

__all__ = ["FrameSamples", "QueryView", "draw_references", "draw_samples"]

_RED, _YELLOW = "#d7191c", "#ffe14d"
_WEIGHTS = LinearSegmentedColormap.from_list("weights", ["#3b0f70", "#de4968", "#fecf92", "#fcfdbf"])


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


def _grid(frames: np.ndarray, rows: Sequence[QueryView]) -> tuple[Figure, list[list[Axes]]]:
    """A panel for each row and frame."""
    assert rows and all(len(row.samples) == len(frames) for row in rows), "one sample per frame"
    return frame_grid([(row.title, frames) for row in rows])


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
        draw_border(axes, _RED)
