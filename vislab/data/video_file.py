"""Video files through PyAV, an optional package: their frames one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vislab.errors import UserError

__all__ = ["file_frames", "file_length_and_speed", "import_av"]


def import_av() -> ModuleType:
    """PyAV. Raises UserError that says how to install it."""
    try:
        import av
    except ImportError:
        raise UserError("video files need the package av: pip install -e '.[video]'") from None
    return av


def file_length_and_speed(path: Path) -> tuple[int | None, Fraction | None]:
    """Number of frames and frames per second, both as the file claims; the number may be wrong, None is unknown.

    Raises UserError for a file that holds no video.
    """
    with _opened(path) as (container, stream):
        fps = stream.average_rate or stream.guessed_rate
        length = stream.frames
        if not length and fps and container.duration:
            length = round(container.duration * fps / 1_000_000)
        return length or None, Fraction(fps) if fps else None


def file_frames(path: Path) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 RGB, turned upright where the file asks for it. Raises UserError where it cannot be decoded."""
    with _opened(path) as (container, stream):
        stream.thread_type = "SLICE"  # decoding on a thread per frame ends a damaged file early without a word
        size: tuple[int, ...] = ()
        for number, frame in enumerate(_decoded(path, container, stream)):
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            size = size or pixels.shape
            if pixels.shape != size:
                found, expected = (f"{width}x{height}" for height, width, _ in (pixels.shape, size))
                raise UserError(f"{path}: frame {number} has {found} pixels, expected {expected} as those before it")
            yield np.ascontiguousarray(pixels)


def _decoded(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    av = import_av()
    number = 0
    try:
        for frame in container.decode(stream):
            yield frame
            number += 1
    except av.FFmpegError as error:
        raise UserError(f"{path}: frame {number} cannot be decoded ({error.strerror})") from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and its first video stream."""
    av = import_av()
    try:
        container = av.open(str(path))
    except (OSError, ValueError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as a video ({reason})") from None
    with container:
        if not container.streams.video:
            raise UserError(f"{path} cannot be read as a video (it has no pictures)")
        yield container, container.streams.video[0]
