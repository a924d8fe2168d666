"""Damage that lasts a few frames: bitten borders, and objects that are not drawn at all.

What one frame does not tell about an object, its other frames do: where its border runs, and that it is there. Masks
say both in every frame. Shape letters: N objects, T frames, P patches, h w crop.
"""

from __future__ import annotations

import numpy as np

from vislab.data.synthetic.randomness import Stream, quantised
from vislab.data.synthetic.raster import Silhouette, inside_frame
from vislab.data.synthetic.shapes import SHAPES

_PATCHES = (2, 4)  # of a damaged frame, fewest and most
_PATCH_RADIUS = (0.3, 0.5)  # in radii of the object: a third of it is missing then, on average
_RAY_STEPS = 64  # points at which the border is looked for between an object's centre and its reach
_LONGEST_BLACKOUT = 3  # frames
_IN_VIEW = 0.5  # of the most that is ever seen of the object


def border_patches(stream: Stream, shapes: np.ndarray, damaged: np.ndarray) -> np.ndarray:
    """(N, T, P, 3) float64: discs around points of the border, x, y, radius in local coordinates; unused ones have
    radius 0. Frames that are not `damaged`, (N, T) bool, have none; those that are, new ones each."""
    fewest, most = _PATCHES
    size = *damaged.shape, most
    number = fewest + stream.integers(most - fewest + 1, *damaged.shape, 1)
    rank = np.arange(most)
    turn = stream.numbers(0, 1, *damaged.shape, 1) + (rank + 0.6 * stream.numbers(0, 1, *size)) / number
    direction = quantised(np.stack([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)], axis=-1), 4096)
    radius = quantised(stream.numbers(*_PATCH_RADIUS, *size), 4096)
    away = np.stack([_border_distance(int(shape), rays) for shape, rays in zip(shapes, direction, strict=True)])
    centre = quantised(away[..., None] * direction, 4096)
    used = damaged[..., None] & (rank < number)
    return np.concatenate([centre, np.where(used, radius, 0)[..., None]], axis=-1)


def _border_distance(shape: int, direction: np.ndarray) -> np.ndarray:
    """(...) how far from the centre the shape ends in these directions, (..., 2)."""
    steps = SHAPES[shape].reach * np.arange(_RAY_STEPS + 1) / _RAY_STEPS
    points = direction[..., None, :] * steps[:, None]
    inside = SHAPES[shape].outline(points[..., 0], points[..., 1]) <= 0
    last = _RAY_STEPS - inside[..., ::-1].argmax(axis=-1)
    return np.where(inside.any(axis=-1), steps[last], 0)


def missing_part(shape: Silhouette, patches: np.ndarray) -> np.ndarray | None:
    """How much of every pixel lies in the patches, (P, 3), of one object and frame: (h, w) float32 in [0, 1], or None
    if it has none."""
    used = patches[patches[:, 2] > 0].tolist()
    if not used:
        return None
    depth = np.full_like(shape.x, -np.inf)
    for x, y, radius in used:
        across, down = shape.x - x, shape.y - y
        depth = np.maximum(depth, radius - np.sqrt(across * across + down * down))
    return np.minimum(np.maximum(depth * shape.radius + 0.5, 0), 1)


def missing_share(shape: Silhouette, patches: np.ndarray, mask: np.ndarray) -> float:
    """The share of the pixels of a mask, (H, W) bool and not empty, more than half of which lies in the patches."""
    missing = missing_part(shape, patches)
    if missing is None:
        return 0.0
    window, crop = inside_frame(shape, *mask.shape)
    return np.count_nonzero(mask[window] & (missing[crop] > 0.5)) / np.count_nonzero(mask)


def blackout(stream: Stream, visible: np.ndarray, share: float) -> np.ndarray:
    """(T,) bool, the frames in which an object is not drawn: runs of one to three, a frame apart at least.

    visible: (T,), how much is seen of it. None of them comes before its third frame in view. share: of the T frames; as
    far as such runs fit in.
    """
    length = len(visible)
    lengths, cuts = 1 + stream.integers(_LONGEST_BLACKOUT, length), stream.numbers(0, 1, length)
    dark = np.zeros(length, bool)
    in_view = np.flatnonzero((visible > 0) & (visible >= _IN_VIEW * visible.max()))
    if len(in_view) < 2:
        return dark
    first = int(in_view[1]) + 1
    runs = _runs(min(int(share * length + 0.5), _most_dark(length - first)), length - first, lengths.tolist())
    free = length - first - sum(runs) - (len(runs) - 1)
    begins = np.sort(np.floor(cuts[: len(runs)] * (free + 1)).astype(int))
    for number, run in enumerate(runs):
        begin = first + int(begins[number]) + sum(runs[:number]) + number
        dark[begin : begin + run] = True
    return dark


def _runs(dark: int, room: int, lengths: list[int]) -> list[int]:
    """Lengths of runs with `dark` frames in all: those drawn, or longer ones where these would not fit the room."""
    runs: list[int] = []
    for drawn in lengths:
        if not dark:
            break
        run = min(drawn, dark)
        while dark - run > _most_dark(room - run - 1):
            run += 1
        runs.append(run)
        dark, room = dark - run, room - run - 1
    return runs


def _most_dark(room: int) -> int:
    """Most frames of so many that the longest runs take, a frame apart."""
    return max(0, room - room // (_LONGEST_BLACKOUT + 1))
