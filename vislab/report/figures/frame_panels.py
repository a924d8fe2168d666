"""Rows of frames side by side on a page, each row with a title: what figures about videos are drawn on.

Shape letters: T frames, H W frame size.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vislab.report.figures.style import PAGE_WIDTH, PICTURE

__all__ = ["draw_border", "draw_note", "draw_outline", "frame_grid"]

_MOST_PIXELS = 320  # across a frame
_NOTE = 5  # points
_TITLE, _GAP = 0.2, 0.03  # inches above a row for its title, and between frames


def frame_grid(rows: Sequence[tuple[str, np.ndarray]]) -> tuple[Figure, list[list[Axes]]]:
    """A panel for each frame of each row, in pixel coordinates; the row's title stands above its first panel.

    rows: title and frames, (T, H, W, 3) uint8; T is the same in all rows. Large frames are drawn with fewer pixels.
    """
    count = len(rows[0][1])
    assert count and all(len(frames) == count for _, frames in rows), "rows of equal length"
    panel_width = (PAGE_WIDTH - (count - 1) * _GAP) / count
    heights = [panel_width * frames.shape[1] / frames.shape[2] for _, frames in rows]
    full_height = sum(heights) + len(rows) * (_TITLE + _GAP)
    top = full_height
    with matplotlib.rc_context(PICTURE):
        figure = Figure(figsize=(PAGE_WIDTH, full_height))
        panels = []
        for (title, frames), height in zip(rows, heights, strict=True):
            bottom = (top - _TITLE - height) / full_height
            lefts = np.arange(count) * (panel_width + _GAP) / PAGE_WIDTH
            size = panel_width / PAGE_WIDTH, height / full_height
            panels.append([_panel(figure, (left, bottom, *size), f) for left, f in zip(lefts, frames, strict=True)])
            panels[-1][0].set_title(title, loc="left", pad=2)
            top -= _TITLE + height + _GAP
    return figure, panels


def draw_border(axes: Axes, colour: str) -> None:
    """A line around a panel."""
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=colour, linewidth=1.4)


def draw_outline(axes: Axes, mask: np.ndarray, colour: str, width: float) -> None:
    """A line of `width` points where the mask, (H, W) bool in the panel's pixels, ends; closed at its border."""
    if mask.any():
        padded = np.pad(mask, 1).astype(float)
        y, x = (np.arange(size) - 0.5 for size in padded.shape)
        axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=width)
        axes.set(xlim=(0, mask.shape[1]), ylim=(mask.shape[0], 0))


def draw_note(axes: Axes, text: str, *, colour: str = "black", opacity: float = 0.55, left: bool = False) -> None:
    """Small white text in a lower corner of a panel, on a box of this colour and opacity."""
    axes.text(
        0.02 if left else 0.98, 0.04, text, transform=axes.transAxes, ha="left" if left else "right", color="white",
        fontsize=_NOTE, bbox={"facecolor": colour, "alpha": opacity, "pad": 1, "linewidth": 0},
    )  # fmt: skip


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
