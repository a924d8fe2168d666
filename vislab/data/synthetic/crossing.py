"""Pairs of objects whose paths cross: where they meet, the nearer one hides all of the farther one for some frames.

While one of two objects is hidden, where they are says nothing about who is who; what they are does, unless they look
alike. Shape letters: N objects, P pairs, T times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vislab.data.synthetic.config import PRESETS, SyntheticConfig, category_grid, split_labels
from vislab.data.synthetic.motion import Crossings, Motion
from vislab.data.synthetic.palette import Paint
from vislab.data.synthetic.randomness import Stream, quantised
from vislab.data.synthetic.shapes import SHAPES

_SHORTEST_VIDEO = 5  # frames; nobody can hide and be seen before and after in less
_HIDDEN = (1.0, 3.5)  # frames during which the two centres agree
_MOST_HIDDEN = 0.35  # part of the video
_OFF_MIDDLE = 0.12  # part of the video by which the meeting is off its middle at most
_TILT = 0.3  # radians between the paths and the longer side of the frame
_ROOM_ALONG, _ROOM_ACROSS = 0.35, 0.8  # parts of the near object's own motion that a meeting leaves it
_APART = 1.15  # times the sum of the reaches
_SOLID = 0.75  # radius around the centre that a shape must fill to hide another one
_MARGIN = 0.94  # of the size that would just be hidden
_NEAR_SIZE = 0.8  # times the preset's largest, at least


@dataclass(frozen=True)
class _Pair:
    """Positions of two objects, and whether they share their looks."""

    far: int
    near: int
    alike: bool


def cross_paths(
    config: SyntheticConfig, stream: Stream, motion: Motion, labels: np.ndarray, paints: list[Paint], looks: np.ndarray
) -> Motion:
    """Makes the first object meet the second, the third the fourth and so on, with the dial's probability each.

    The near object of a pair becomes large and solid, the far one small enough to be hidden. Changes labels, (N,), and
    paints in place: the two are of different categories (if there are two), or alike if they share their looks, (N,).
    """
    draws = stream.numbers(0, 1, len(labels) // 2, 7)
    chosen = np.flatnonzero((draws[:, 0] < config.dials.crossing) & (motion.length >= _SHORTEST_VIDEO))
    if not len(chosen):
        return motion
    draws = draws[chosen, 1:]
    pairs = [_Pair(2 * p, 2 * p + 1, bool(looks[2 * p] == looks[2 * p + 1])) for p in chosen.tolist()]
    for pair, draw in zip(pairs, draws[:, 0], strict=True):
        _label(pair, labels, paints, float(draw), config.num_categories)
    far, near = np.array([pair.far for pair in pairs]), np.array([pair.near for pair in pairs])
    shapes = split_labels(labels, config.num_categories)[0]
    motion = _sized(motion, far, near, shapes, PRESETS[config.preset].diameter[1] * config.height / 2)
    return replace(motion, crossings=_crossings(motion, far, near, shapes, draws[:, 1:]))


def _label(pair: _Pair, labels: np.ndarray, paints: list[Paint], draw: float, num_categories: int) -> None:
    """Gives the near object a solid shape, and the far one the same label or, drawn by `draw` if need be, another."""
    num_shapes, num_textures = category_grid(num_categories)
    solid = [position for position in range(num_shapes) if filled_radius(position) >= _SOLID]
    shape, texture = divmod(int(labels[pair.near]), num_textures)
    labels[pair.near] = solid[shape % len(solid)] * num_textures + texture
    if pair.alike:
        labels[pair.far], paints[pair.far] = labels[pair.near], paints[pair.near]
    elif labels[pair.far] == labels[pair.near]:
        labels[pair.far] = (labels[pair.far] + 1 + int(draw * (num_categories - 1))) % num_categories


def filled_radius(shape: int) -> float:
    """Radius of a disc around the origin that lies in the shape; negative if the origin does not."""
    origin = np.zeros(1)
    return -float(SHAPES[shape].outline(origin, origin)[0])


def _sized(motion: Motion, far: np.ndarray, near: np.ndarray, shapes: np.ndarray, largest: float) -> Motion:
    """The same motion with radii at which each far object fits behind its near one, at all times."""
    radius, bent = motion.radius.copy(), np.abs(motion.bend).sum(axis=1)
    filled = np.array([filled_radius(int(shape)) for shape in shapes[near]])
    reach = np.array([SHAPES[shape].reach for shape in shapes[far]])
    radius[near] = np.maximum(np.maximum(motion.radius[near], motion.radius[far]), _NEAR_SIZE * largest)
    hideable = _MARGIN * radius[near] * filled / (1 + bent[near]) * (1 - bent[far]) / reach
    radius[far] = np.minimum(np.minimum(motion.radius[near], motion.radius[far]), hideable)
    together = {name: getattr(motion, name).copy() for name in ("scale", "scale_phase", "period")}
    for values in together.values():
        values[far] = values[near]
    leaves = motion.leaves.copy()
    leaves[far] = leaves[near] = False
    return replace(motion, radius=quantised(radius, 64), leaves=leaves, **together)


def _crossings(motion: Motion, far: np.ndarray, near: np.ndarray, shapes: np.ndarray, draws: np.ndarray) -> Crossings:
    """draws: (P, 5) in [0, 1) for time, duration, tilt, direction, and the near object's share of the way."""
    time, duration, tilt, direction, share = draws.T
    length = motion.length
    hidden = np.minimum(_HIDDEN[0] + (_HIDDEN[1] - _HIDDEN[0]) * duration, _MOST_HIDDEN * length)
    place, room = _lanes(motion, near)
    angle = _TILT * (2 * tilt - 1) + np.where(direction < 0.5, 0, np.pi)
    heading = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, :: 1 if motion.frame[0] >= motion.frame[1] else -1]
    reach = motion.radius * np.array([SHAPES[shape].reach for shape in shapes])
    return Crossings(
        far=far,
        near=near,
        place=place,
        room=room,
        apart=_APART * (reach[far] + reach[near])[:, None] * heading,
        near_share=0.3 + 0.4 * share,
        time=(length - 1) / 2 + length * _OFF_MIDDLE * (2 * time - 1),
        hidden=hidden,
        approach=(length - 1 - hidden) / 2,
    )


def _lanes(motion: Motion, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`place` and `room` of the meetings: side by side over the frame's shorter side, in the order of the near objects'
    homes there; over the longer side, in the middle."""
    along, across = (0, 1) if motion.frame[0] >= motion.frame[1] else (1, 0)
    count = len(near)
    lane = np.empty(count)
    lane[np.argsort(motion.home[near, across], kind="stable")] = (np.arange(count) + 0.5) / count
    place, room = np.empty((count, 2)), np.empty((count, 2))
    place[:, along], place[:, across] = motion.frame[along] / 2, motion.frame[across] * lane
    room[:, along], room[:, across] = _ROOM_ALONG, _ROOM_ACROSS / count
    return place, room
