"""A video that is read once, from its first frame to its last: a file, an animation, a folder of images, a data set's.

Shape letters: H W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from vislab.data.dataset import VideoDataset
from vislab.data.frame_folder import FrameFolder
from vislab.data.video_file import file_frames, file_length_and_speed
from vislab.errors import UserError

__all__ = ["FrameSource", "dataset_video", "open_frames"]

USUAL_FPS = Fraction(6)  # of images; YouTube-VIS annotates so many a second


@dataclass(frozen=True)
class FrameSource:
    """One video.

    read: starts from the beginning; gives (H, W, 3) uint8 RGB, all of one size, and holds none. length: number of
    frames, as far as it is known before they are read. fps: frames per second, None where the source says nothing.
    video_id: in its data set.
    """

    read: Callable[[], Iterator[np.ndarray]]
    length: int | None
    fps: Fraction | None
    video_id: int = 1

    def speed(self, wanted: float | None) -> Fraction:
        """Frames per second: those wanted or, with None, its own, or 6. Raises UserError for what cannot be watched."""
        if wanted is None:
            return self.fps or USUAL_FPS
        if not 0.1 <= wanted <= 1000:
            raise UserError(f"--fps is {wanted:g}, expected a number from 0.1 to 1000")
        return Fraction(wanted).limit_denominator(1001)  # 30000/1001 and its like


def open_frames(path: Path) -> FrameSource:
    """A folder of images, a .gif, or a video file. Raises UserError if it is none of them.

    What is wrong in the middle of it is told when it is read.
    """
    if path.is_dir():
        return dataset_video(FrameFolder(path, ()), 0)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file or folder")
    if path.suffix.lower() == ".gif":
        return _animation(path)
    length, fps = file_length_and_speed(path)
    return FrameSource(lambda: file_frames(path), length, fps)


def dataset_video(dataset: VideoDataset, index: int) -> FrameSource:
    """A video of a data set."""
    info = dataset.info(index)

    def read() -> Iterator[np.ndarray]:
        return (dataset.frames(index, [t])[0] for t in range(info.length))

    return FrameSource(read, info.length, None, info.id)


def _animation(path: Path) -> FrameSource:
    """Each frame is taken to last as long as the first."""

    def read() -> Iterator[np.ndarray]:
        number = 0
        try:
            with Image.open(path) as image:
                for frame in ImageSequence.Iterator(image):
                    yield np.array(frame.convert("RGB"))
                    number += 1
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{path}: frame {number} cannot be read ({error})") from None

    try:
        with Image.open(path) as image:
            length, duration = getattr(image, "n_frames", 1), image.info.get("duration", 0)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error})") from None
    return FrameSource(read, length, Fraction(1000, round(duration)) if duration >= 1 else None)
