"""Masks before and after refinement, drawn over the frames: what a frame-level model lost and refinement found again.

Shape letters: T frames, H W frame size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from vislab.report.figures.frame_panels import draw_border, draw_note, draw_outline, frame_grid
from vislab.report.figures.style import PICTURE
from vislab.report.videos.overlays import PALETTE

__all__ = ["RefinedObject", "draw_refinement"]

_MASK = "#{:02x}{:02x}{:02x}".format(*PALETTE[3])  # yellow, of the palette that all eyes tell apart
_OPACITY = 0.45
_TRUTH, _GAINED, _LOST, _CHANGED = "white", "#1a9641", "#d7191c", "#fd8d3c"
_CLEAR = 0.2  # change of a frame's quality from which its panel gets a border


@dataclass(frozen=True)
class RefinedObject:
    """One object in consecutive frames of a video.

    title: who and where. frames: (T, H, W, 3) uint8. numbers: (T,) of the frames in their video. before, after: masks
    (T, H, W) bool, empty where there is none. qualities: (T,) each in [0, 1], how good the mask is before and after:
    its IoU with the labelled one or, without labels, 1 where there is a mask; NaN where the object is absent. truth:
    labelled masks (T, H, W) bool, or None.
    """

    title: str
    frames: np.ndarray
    numbers: tuple[int, ...]
    before: np.ndarray
    after: np.ndarray
    qualities: tuple[np.ndarray, np.ndarray]
    truth: np.ndarray | None = None


def draw_refinement(objects: Sequence[RefinedObject], window: int) -> Figure:
    """Two rows an object: its masks without refinement above those with it; RefineVIS (Abrantes et al.), Fig. 3.

    All have equally many frames. Filled: the mask; white line: the labelled one. In the lower row a green border marks
    frames that gained by refinement, a red one those that lost; each panel says the mask's IoU. Without labels nobody
    knows which it is: frames where a mask appeared or went have an orange border. window: of the refinement, for the
    titles.
    """
    rows = []
    for shown in objects:
        rows.append((f"{shown.title}: without refinement", shown.frames))
        rows.append((f"with refinement, window of {window} frames", shown.frames))
    figure, panels = frame_grid(rows)
    with matplotlib.rc_context(PICTURE):
        for shown, above, below in zip(objects, panels[::2], panels[1::2], strict=True):
            for t in range(len(shown.frames)):
                for axes, masks, quality in zip(
                    (above[t], below[t]), (shown.before, shown.after), shown.qualities, strict=True
                ):
                    _draw(axes, masks[t], None if shown.truth is None else shown.truth[t], float(quality[t]))
                draw_note(above[t], f"frame {shown.numbers[t]}", left=True)
                old, new = (float(quality[t]) for quality in shown.qualities)
                _mark_change(below[t], old, new, shown.truth is not None)
    return figure


def _draw(axes: Axes, mask: np.ndarray, truth: np.ndarray | None, quality: float) -> None:
    height, width = mask.shape
    fill = np.zeros((height, width, 4))
    fill[mask] = to_rgba(_MASK, _OPACITY)
    axes.imshow(fill, extent=(0, width, height, 0), interpolation="nearest")
    draw_outline(axes, mask, _MASK, 0.9)
    if truth is not None:
        draw_outline(axes, truth, _TRUTH, 0.5)
        if not np.isnan(quality):
            draw_note(axes, f"IoU {quality:.2f}")
    elif not mask.any():
        draw_note(axes, "no mask")


def _mark_change(axes: Axes, before: float, after: float, labelled: bool) -> None:
    if abs(after - before) >= _CLEAR:
        known = _GAINED if after > before else _LOST
        draw_border(axes, known if labelled else _CHANGED)
