"""Feature maps of a clip under its frames: what a quantity of the tokens is in two or more models, on one scale.

Shape letters: T frames, H W frame size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vislab.report.figures.frame_panels import draw_outline, frame_grid
from vislab.report.figures.style import PICTURE

__all__ = ["MappedQuantity", "draw_feature_maps"]

_COLOURS = matplotlib.colormaps["viridis"]  # even in lightness, for any kind of colour vision
_BAR_WIDTH, _BAR_HEIGHT, _ABOVE, _NUMBER = 1.0, 0.07, 0.065, 0.42  # inches: the bar, its place, room for a number
_LINE = 0.5  # points


@dataclass(frozen=True)
class MappedQuantity:
    """Rows of maps that share a colour scale. rows: the title of each and its maps, (T, H, W)."""

    rows: tuple[tuple[str, np.ndarray], ...]

    @property
    def scale(self) -> Normalize:
        """From the least to the largest value of all rows."""
        values = [maps for _, maps in self.rows]
        return Normalize(min(float(maps.min()) for maps in values), max(float(maps.max()) for maps in values))


def draw_feature_maps(
    title: str, frames: np.ndarray, quantities: Sequence[MappedQuantity], objects: np.ndarray
) -> Figure:
    """The frames, and below them every row of every quantity, with a colour bar; TAFormer (Zhang et al.), Fig. 5.

    title: of the frames, (T, H, W, 3) uint8. objects: labelled masks, (N, T, H, W) bool; white lines on the maps.
    """
    coloured = [
        (name, (255 * _COLOURS(quantity.scale(maps))[..., :3]).astype(np.uint8))
        for quantity in quantities
        for name, maps in quantity.rows
    ]
    figure, panels = frame_grid([(title, frames), *coloured])
    with matplotlib.rc_context(PICTURE):
        for row in panels[1:]:
            for t, axes in enumerate(row):
                for mask in objects[:, t]:
                    draw_outline(axes, mask, "white", _LINE)
        first = 1
        for quantity in quantities:
            _draw_bar(figure, panels[first][-1].get_position().y1, quantity.scale)
            first += len(quantity.rows)
    return figure


def _draw_bar(figure: Figure, bottom: float, scale: Normalize) -> None:
    """A colour bar at the right of the line in which a row's title stands. bottom: of that line, in the figure."""
    width, height = figure.get_size_inches()
    left = 1 - (_BAR_WIDTH + _NUMBER) / width
    axes = figure.add_axes((left, bottom + _ABOVE / height, _BAR_WIDTH / width, _BAR_HEIGHT / height), label="scale")
    bar = figure.colorbar(ScalarMappable(scale, _COLOURS), cax=axes, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    for x, side, value in ((-0.03, "right", scale.vmin), (1.03, "left", scale.vmax)):
        axes.text(x, 0.4, f"{value:.2g}".replace("-", "\N{MINUS SIGN}"), transform=axes.transAxes, ha=side, va="center")
