"""Embeddings as points of planes side by side, a colour for each object and a marker for each category.

Shape letters: N points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vislab.report.figures.style import COLUMN_WIDTH, PLOT
from vislab.report.videos.overlays import identity_colour

__all__ = ["EmbeddingPlane", "draw_planes"]

_MARKERS = "o^sDvP*X"  # of categories; the first one again after the last
_TITLE, _LEGEND_LINE, _BESIDE = 0.42, 0.15, 2  # inches: above the planes, a line below; names in a line
_POINT: Any = {"linestyle": "", "markersize": 4, "markeredgecolor": "black", "markeredgewidth": 0.3}


@dataclass(frozen=True)
class EmbeddingPlane:
    """title: above the panel. points: (N, 2). objects: (N,) which object each belongs to."""

    title: str
    points: np.ndarray
    objects: np.ndarray


def draw_planes(planes: Sequence[EmbeddingPlane], categories: Mapping[int, str]) -> Figure:
    """A square panel for each plane, without axes, which t-SNE has none of; TAFormer (Zhang et al.), Fig. 6.

    categories: object -> the name of its category, of all objects.
    """
    looks, names = _looks(categories), _names(categories)
    lines = -(-len(names) // _BESIDE)
    with matplotlib.rc_context(PLOT):
        height = COLUMN_WIDTH / len(planes) + _TITLE + _LEGEND_LINE * lines
        figure = Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")
        for axes, plane in zip(figure.subplots(1, len(planes), squeeze=False)[0], planes, strict=True):
            for number, look in looks.items():
                axes.plot(*plane.points[plane.objects == number].T, **look)
            axes.set(title=plane.title, xticks=[], yticks=[], box_aspect=1)
            axes.margins(0.08)
            axes.spines[:].set_visible(True)
        handles = [Line2D([], [], label=name, **looks[number]) for number, name in names.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=_BESIDE, handletextpad=0.1, columnspacing=1)
    return figure


def _looks(categories: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """How the points of each object are drawn."""
    markers = {name: _MARKERS[place % len(_MARKERS)] for place, name in enumerate(dict.fromkeys(categories.values()))}
    return {
        number: _POINT
        | {"color": tuple(channel / 255 for channel in identity_colour(place)), "marker": markers[category]}
        for place, (number, category) in enumerate(categories.items())
    }


def _names(categories: Mapping[int, str]) -> dict[int, str]:
    """What the legend calls each object: its category, with a number where several have the same."""
    counts, seen = Counter(categories.values()), Counter[str]()
    names = {}
    for number, category in categories.items():
        seen[category] += 1
        names[number] = f"{category} {seen[category]}" if counts[category] > 1 else category
    return names
