"""Videos with their ground truth, and predictions beside it, as still sheets and as animations.

Shape letters: T frames, H W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vislab.errors import UserError
from vislab.records import atomic_path
from vislab.report.videos.overlays import draw_overlays
from vislab.report.videos.sheets import build_sheet, stack_sheets
from vislab.report.videos.tracks import Track

__all__ = ["Clip", "video_sheet", "write_animation", "write_sheets"]

_PANEL_WIDTH = 320  # pixels, unless a scale is given
_FRAMES_PER_SHEET = 6
_MILLISECONDS = 1000 // 6  # between frames; YouTube-VIS annotates 6 a second


@dataclass(frozen=True)
class Drawing:
    """How videos are drawn.

    num_frames: of each video, spread evenly from the first to the last; None: 6 on a sheet, all in an animation.
    scale: enlargement; None: to a width of 320 pixels. min_score: least score of a prediction. Raises UserError.
    """

    num_frames: int | None = None
    scale: float | None = None
    min_score: float = 0.3

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise UserError(f"--frames is {self.num_frames}, expected at least 1")
        if self.scale is not None and not 0.05 <= self.scale <= 16:
            raise UserError(f"--scale is {self.scale:g}, expected a number from 0.05 to 16")
        if not 0 <= self.min_score <= 1:
            raise UserError(f"--min-score is {self.min_score:g}, expected a number from 0 to 1")

    def frames(self, length: int, default: int) -> list[int]:
        """Indices of the frames to draw, each once."""
        return np.unique(np.linspace(0, length - 1, self.num_frames or default).round().astype(int)).tolist()


@dataclass(frozen=True)
class Clip:
    """One video to draw.

    read: gives the frames asked for, (T, H, W, 3) uint8. predictions: None leaves their row out; a list may be empty.
    """

    name: str
    caption: str
    length: int
    read: Callable[[Sequence[int]], np.ndarray]
    truth: list[Track]
    predictions: list[Track] | None = None

    @property
    def rows(self) -> list[tuple[str, list[Track]]]:
        """Titles and instances of the pictures of one frame."""
        rows: list[tuple[str, list[Track]]] = [("image", []), ("ground truth", self.truth)]
        return rows if self.predictions is None else [*rows, ("prediction", self.predictions)]

    def panels(self, frame: int, scale: float | None) -> list[Image.Image]:
        """One frame as the pictures of all rows. scale: None gives pictures of the usual width."""
        pixels = self.read([frame])[0]
        scale = _PANEL_WIDTH / pixels.shape[1] if scale is None else scale
        drawn = []
        for _, tracks in self.rows:
            overlays = [overlay for track in tracks if (overlay := track.overlay(frame)) is not None]
            drawn.append(draw_overlays(pixels, overlays, scale))
        return drawn


def video_sheet(clip: Clip, drawing: Drawing) -> Image.Image:
    """Frames side by side; below each other image, truth, prediction."""
    frames = drawing.frames(clip.length, _FRAMES_PER_SHEET)
    columns = [clip.panels(frame, drawing.scale) for frame in frames]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return build_sheet(rows, [title for title, _ in clip.rows], [f"frame {frame}" for frame in frames], clip.caption)


def write_sheets(clips: Sequence[Clip], out: Path, drawing: Drawing) -> list[Path]:
    """One picture with the sheets of all clips where `out` ends in .png, else a folder with a picture of each.

    Returns the files. Raises UserError for another ending or a place that cannot be written to.
    """
    if out.suffix == ".png":
        return [_save(out, stack_sheets([video_sheet(clip, drawing) for clip in clips]))]
    if out.suffix and not out.is_dir():
        raise UserError(f"--out {out} ends in '{out.suffix}', expected .png, .gif or a folder")
    return [_save(out / f"{clip.name.replace('/', '_')}.png", video_sheet(clip, drawing)) for clip in clips]


def write_animation(clip: Clip, out: Path, drawing: Drawing) -> Path:
    """A GIF, 6 frames a second: image, truth and prediction side by side. Returns `out`. Raises UserError."""
    titles = [title for title, _ in clip.rows]
    pictures = []
    for frame in drawing.frames(clip.length, clip.length):
        panels = clip.panels(frame, drawing.scale)
        sheet = build_sheet([panels], column_titles=titles, caption=f"{clip.caption} · frame {frame}")
        pictures.append(sheet.quantize(dither=Image.Dither.NONE))
    return _save(out, pictures[0], save_all=True, append_images=pictures[1:], duration=_MILLISECONDS, loop=0)


def _save(path: Path, picture: Image.Image, **options: Any) -> Path:
    """Writes PNG or GIF, as the name ends."""
    try:
        with atomic_path(path) as temporary:
            picture.save(temporary, path.suffix[1:].upper(), **options)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path
