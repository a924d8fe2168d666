"""Calm backgrounds: two tints that melt into each other, soft clouds, and pale ghosts of objects.

The ghosts are about as visible as a faint object, so that a faint object cannot be found by its contrast alone.
"""

from __future__ import annotations

import numpy as np

from vislab.data.synthetic.config import PRESETS, SyntheticConfig, split_labels
from vislab.data.synthetic.motion import Poses
from vislab.data.synthetic.palette import Tints, object_paint
from vislab.data.synthetic.randomness import Stream, quantised
from vislab.data.synthetic.raster import paint, silhouette

# Cells of the cloud layers in frame heights, and their amplitudes in grey levels.
_CLOUDS = ((0.5, 11.0), (0.2, 8.0), (0.085, 6.0), (0.04, 4.0))
_FEWEST_GHOSTS = 3
_GHOST_OPACITY = (0.05, 0.13)
_GRAIN = 5 / 128  # grey levels per unit of a signed byte


def make_background(stream: Stream, config: SyntheticConfig, tints: Tints) -> np.ndarray:
    """(3, H, W) uint8, RGB planes."""
    height, width = config.height, config.width
    slope = (np.arange(height) * (0.8 / height) - 0.15).astype(np.float32)
    melt = np.clip(clouds(stream, height, width, 0.8) * 0.5 + slope[:, None], 0, 1)
    grey = np.zeros((height, width), np.float32)
    for cell, amplitude in _CLOUDS:
        grey += (clouds(stream, height, width, cell) - 0.5) * (2 * amplitude)
    upper, lower = (np.array(tint, np.float32)[:, None, None] for tint in tints)
    planes = (lower - upper) * melt
    planes += upper
    planes += grey
    _add_ghosts(planes, stream, config, tints)
    return to_bytes(planes)


def clouds(stream: Stream, height: int, width: int, cell: float) -> np.ndarray:
    """Value noise in [0, 1], (H, W) float32, smooth over `cell` frame heights."""
    size = max(2.0, cell * height)
    row, row_weight = _knots(height, size)
    column, column_weight = _knots(width, size)
    knots = stream.bytes(int(row[-1]) + 2, int(column[-1]) + 2).astype(np.float32)
    lines = knots[row]
    lines += (knots[row + 1] - lines) * row_weight[:, None]
    noise = lines[:, column]
    noise += (lines[:, column + 1] - noise) * column_weight
    return noise * (1 / 255)


def _knots(count: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    """For `count` pixels, the knot before each, int64, and the weight of the one after it, float32 in steps of 1/64."""
    position = np.arange(count) / size
    knot = np.floor(position).astype(np.int64)
    part = position - knot
    return knot, (np.floor(64 * part * part * (3 - 2 * part) + 0.5) / 64).astype(np.float32)


def _add_ghosts(planes: np.ndarray, stream: Stream, config: SyntheticConfig, tints: Tints) -> None:
    """Three to six pale objects of the data set's own shapes, textures, colours and sizes, part of the background."""
    count = _FEWEST_GHOSTS + stream.integer(4)
    low, high = PRESETS[config.preset].diameter
    angle = 2 * np.pi * stream.numbers(0, 1, count, 1)
    poses = Poses(
        x=quantised(stream.numbers(0, config.width, count, 1), 64),
        y=quantised(stream.numbers(0, config.height, count, 1), 64),
        radius=quantised(stream.numbers(low, high, count, 1) * (config.height / 2), 64),
        cos=quantised(np.cos(angle), 4096),
        sin=quantised(np.sin(angle), 4096),
        bend=np.zeros((count, 1, 4)),
    )
    opacity = quantised(stream.numbers(*_GHOST_OPACITY, count), 4096)
    shapes, textures = split_labels(stream.integers(config.num_categories, count), config.num_categories)
    for position in range(count):
        ghost = silhouette(poses, position, 0, int(shapes[position]))
        paint(planes, ghost, int(textures[position]), object_paint(stream, tints), float(opacity[position]))


def add_grain(planes: np.ndarray, stream: Stream) -> None:
    """Sensor noise, the same in all channels, uniform in about +-5 grey levels; in place."""
    planes += stream.bytes(*planes.shape[1:]).view(np.int8) * np.float32(_GRAIN)


def noise_frame(stream: Stream, height: int, width: int) -> np.ndarray:
    """(3, H, W) uint8 without any information."""
    return stream.bytes(3, height, width)


def to_bytes(planes: np.ndarray) -> np.ndarray:
    """Rounds float32 grey levels to uint8, clipped; overwrites its argument."""
    planes += 0.5
    return np.minimum(np.maximum(planes, 0, out=planes), 255, out=planes).astype(np.uint8)
