"""The native pass over run-length codes (sources in kernels/rle), in numpy terms. `vislab.rle` decides when it is used.

It gives what numpy and pycocotools give, bit for bit, and no message: where something is wrong, they find out what.

Shape letters: N masks or tracks, M other tracks, T frames.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vislab.native_build import KERNELS, NativeKernel, load_kernel

SOURCES = KERNELS / "rle"
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-w")
WORTHWHILE = 2_000_000  # characters, which take numpy less than 0.1 s; building the kernel, once, takes 0.6 s

_seen = 0  # characters, by this process


@functools.cache
def native_kernel() -> NativeKernel:
    """Build (if the cache does not have it) and load the kernel; never raises, the reason says what happened."""
    return load_kernel(SOURCES, FLAGS, "baseline", _declare)


def kernel_for(characters: int) -> ctypes.CDLL | None:
    """The kernel, if there is one, once the calls of this process have asked for WORTHWHILE characters in all."""
    global _seen
    _seen += characters
    return native_kernel().library if _seen >= WORTHWHILE else None


def check(
    library: ctypes.CDLL, text: bytes, ends: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Areas, (N,) int64, and whether a run after the first is empty, (N,) bool; None if anything is wrong.

    Args:
        text: the counts of N masks, one after another; any bytes.
        ends: (N,) int64, where each ends.
        pixels: (N,) int64, what the runs of each must add up to.
    """
    areas, empties = np.empty(len(ends), np.int64), np.empty(len(ends), bool)
    ends, pixels = np.ascontiguousarray(ends), np.ascontiguousarray(pixels)
    good = library.vislab_rle_check(
        text, ends.ctypes.data, pixels.ctypes.data, len(ends), areas.ctypes.data, empties.ctypes.data
    )
    return (areas, empties) if good else None


class Tracks(NamedTuple):
    """The masks of N tracks, in some of their frames."""

    texts: Sequence[bytes]  # the checked counts of all masks of each, one after another
    ends: np.ndarray  # int64, where those of each frame of the first track end in its text, then of the second ...
    firsts: np.ndarray  # (N + 1,) int64, where the frames of each begin in `ends`; no characters: no mask

    def arguments(self) -> tuple[object, ...]:
        """As the kernel takes them; only alive as long as this."""
        return (ctypes.c_char_p * len(self.texts))(*self.texts), self.ends.ctypes.data, self.firsts.ctypes.data


def intersections(library: ctypes.CDLL, tracks: Tracks, others: Tracks, frames: int) -> np.ndarray:
    """Pixels that each two tracks share in each of the first frames: (T, N, M) int64."""
    shared = np.empty((frames, len(tracks.texts), len(others.texts)), np.int64)
    library.vislab_rle_intersections(
        *tracks.arguments(), len(tracks.texts), *others.arguments(), len(others.texts), frames, shared.ctypes.data
    )
    return shared


def totals(
    library: ctypes.CDLL, tracks: Tracks, others: Tracks, bounds: np.ndarray, other_bounds: np.ndarray
) -> np.ndarray:
    """Pixels that each two tracks of a group share over all frames: one (N, M) after the other, int64.

    bounds, other_bounds: (groups + 1,) int64, where the tracks of each group begin.
    """
    shared = np.empty(int((np.diff(bounds) * np.diff(other_bounds)).sum()), np.int64)
    library.vislab_rle_totals(
        *tracks.arguments(), *others.arguments(), bounds.ctypes.data, other_bounds.ctypes.data, len(bounds) - 1,
        shared.ctypes.data,
    )  # fmt: skip
    return shared


def boxes(library: ctypes.CDLL, tracks: Tracks, heights: Sequence[int], frames: int) -> np.ndarray:
    """Tight boxes (left, top, right, bottom), the latter two exclusive, zeros without pixels: (N, T, 4) int64.

    heights: of the masks of each track.
    """
    found, sides = np.empty((len(tracks.texts), frames, 4), np.int64), np.array(heights, np.int64)
    library.vislab_rle_boxes(*tracks.arguments(), len(tracks.texts), sides.ctypes.data, frames, found.ctypes.data)
    return found


def _declare(library: ctypes.CDLL) -> None:
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    tracks = [pointer] * 3
    library.vislab_rle_check.argtypes = [ctypes.c_char_p, pointer, pointer, size, pointer, pointer]
    library.vislab_rle_check.restype = ctypes.c_int
    library.vislab_rle_intersections.argtypes = [*tracks, size, *tracks, size, size, pointer]
    library.vislab_rle_totals.argtypes = [*tracks, *tracks, pointer, pointer, size, pointer]
    library.vislab_rle_boxes.argtypes = [*tracks, size, pointer, size, pointer]
    for function in (library.vislab_rle_intersections, library.vislab_rle_totals, library.vislab_rle_boxes):
        function.restype = None
