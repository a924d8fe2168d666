"""Strips of video frames with tracks drawn over them, below each other: ground truth and models, colours that agree.

Shape letters: T frames, H W frame size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.video_iou import video_iou
from vislab.report.figures.frame_panels import draw_border, draw_note, draw_outline, frame_grid
from vislab.report.figures.style import PICTURE
from vislab.report.videos.overlays import Overlay, draw_overlays, identity_colour
from vislab.report.videos.tracks import SAME_OBJECT, Track, true_tracks

__all__ = ["Strip", "StripRow", "draw_strips", "identity_tracks"]

_WIDTH = 240  # pixels of a frame as drawn
_MARK = "#d7191c"
_OPACITY = 0.7  # of what is behind text
_GREY = 0.85  # of the way from a frame's colours to grey, so that colours are those of identities
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class StripRow:
    """What one model, or the ground truth, has in the strip's frames.

    tracks: of the whole video; where masks overlap, the earlier track hides the later. on_top: (T,) indices of tracks
    that hide the others in each frame. outlined: (T,) masks (H, W) bool that get a white line. marks: (T,) what goes
    wrong, empty where nothing does.
    """

    title: str
    tracks: Sequence[Track]
    on_top: Sequence[Collection[int]] = ()
    outlined: Sequence[Sequence[np.ndarray]] = ()
    marks: Sequence[str] = ()


@dataclass(frozen=True)
class Strip:
    """Frames of one video. frames: (T, H, W, 3) uint8. numbers: (T,) their places in the video."""

    frames: np.ndarray
    numbers: Sequence[int]
    rows: Sequence[StripRow]


def draw_strips(strips: Sequence[Strip]) -> Figure:
    """All rows of all strips, which have equally many frames. A frame with a mark has a red border."""
    drawn = [(strip, row) for strip in strips for row in strip.rows]
    figure, panels = frame_grid([(row.title, strip.frames) for strip, row in drawn])
    with matplotlib.rc_context(PICTURE):
        for (strip, row), line in zip(drawn, panels, strict=True):
            for t, axes in enumerate(line):
                _draw(axes, strip, row, t)
                if row is strip.rows[0]:
                    draw_note(axes, f"frame {strip.numbers[t]}", opacity=_OPACITY, left=True)
    return figure


def _draw(axes: Axes, strip: Strip, row: StripRow, t: int) -> None:
    axes.images[0].set(data=_painted(strip, row, t), interpolation="antialiased")  # thin lines survive any resolution
    for mask in row.outlined[t] if row.outlined else ():
        draw_outline(axes, mask, "white", 0.8)
    if row.marks and row.marks[t]:
        draw_border(axes, _MARK)
        draw_note(axes, row.marks[t], colour=_MARK, opacity=_OPACITY)


def identity_tracks(truth: GroundTruth, found: Sequence[Instance], video_id: int) -> list[Track]:
    """Detected tracks of a video, each with a colour of its own.

    One after the other, which should be by falling score, takes the colour that `tracks.true_tracks` gives the labelled
    object that it overlaps best of those still free. One that overlaps none of them by `SAME_OBJECT` has a colour that
    no object has: so a second track on an object shows.
    """
    colours = [track.colour for track in true_tracks(truth, video_id)]
    labelled = [instance for instance in truth.instances if instance.video_id == video_id]
    own = [instance for instance in found if instance.video_id == video_id]
    overlaps = video_iou(own, labelled)
    overlaps[:, [m for m, instance in enumerate(labelled) if instance.is_crowd]] = 0
    tracks, further = [], len(labelled)
    for n, instance in enumerate(own):
        best = int(overlaps[n].argmax()) if labelled else -1
        known = best >= 0 and overlaps[n, best] >= SAME_OBJECT
        tracks.append(Track(colours[best] if known else identity_colour(further), "", instance.track))
        if known:
            overlaps[:, best] = 0
        else:
            further += 1
    return tracks


def _painted(strip: Strip, row: StripRow, t: int) -> np.ndarray:
    """(h, w, 3) uint8: one frame with the tracks' masks."""
    frame, number = strip.frames[t], strip.numbers[t]
    first = row.on_top[t] if row.on_top else ()
    order = [*first, *(n for n in range(len(row.tracks)) if n not in first)]
    overlays = _visible([row.tracks[n].overlay(number) for n in order])
    return np.asarray(draw_overlays(_pale(frame), overlays, _WIDTH / frame.shape[1]))


def _pale(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with little colour."""
    grey = (frame @ _LUMA)[..., None]
    return np.rint(_GREY * grey + (1 - _GREY) * frame).astype(np.uint8)


def _visible(overlays: Sequence[Overlay | None]) -> list[Overlay]:
    """What those before leave of each mask, without labels: mixed colours would be nobody's."""
    kept: list[Overlay] = []
    for overlay in overlays:
        if overlay is not None:
            hidden = np.any([other.mask for other in kept], axis=0)
            kept.append(Overlay(overlay.mask & ~hidden, overlay.colour))
    return kept
