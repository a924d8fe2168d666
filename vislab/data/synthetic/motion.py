"""Trajectories: where every object is, how large, how turned and how bent, at any time.

Times are in frames and may be fractions (motion blur). Everything is rounded (positions and radii to 1/64 pixel), so
that a platform's last bit of sin cannot move a pixel. Shape letters: N objects, T times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vislab.data.synthetic.config import SyntheticConfig
from vislab.data.synthetic.randomness import Stream, quantised
from vislab.data.synthetic.shapes import MAX_REACH

_TAU = 2 * np.pi
_TINY_HEIGHT = 96  # pixels; speeds below are in pixels a frame at this height
# An object that leaves is out of the frame this long before and after its moment, and on the way that long (parts of
# the video); the moment is this far from the middle of the video at most.
_OUT, _ON_THE_WAY, _OFF_MIDDLE = 0.06, 0.36, 0.1


@dataclass(frozen=True)
class Poses:
    """x, y, radius in pixels, cos and sin of the rotation: (N, T) float64. bend: (N, T, 4), see `raster._swell`."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    cos: np.ndarray
    sin: np.ndarray
    bend: np.ndarray


@dataclass(frozen=True)
class Crossings:
    """P pairs of objects that meet, pass each other and exchange sides. Pairs of numbers are in x, y order.

    far, near: (P,) int64, positions of the objects; the near one hides the far one. place: (P, 2) pixels, where they
    meet, but for the near object's own motion, of which the parts room, (P, 2), are left. apart: (P, 2) pixels, from
    the far object to the near one after they have parted; before they meet, minus that. near_share: (P,), how much of
    this way is the near object's. time: (P,) frames, the middle of the meeting. hidden: (P,) frames for which both are
    at one place. approach: (P,) frames that coming together, and parting, takes.
    """

    far: np.ndarray
    near: np.ndarray
    place: np.ndarray
    room: np.ndarray
    apart: np.ndarray
    near_share: np.ndarray
    time: np.ndarray
    hidden: np.ndarray
    approach: np.ndarray

    def led(self, centre: np.ndarray, frame: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Centres (2, N, T) with those of the pairs replaced. frame: (2,) pixels."""
        strayed = centre[:, self.near] - frame[:, None, None] / 2
        middle = self.place.T[:, :, None] + self.room.T[:, :, None] * strayed
        since = times - self.time[:, None]
        progress = np.clip((np.abs(since) - self.hidden[:, None] / 2) / self.approach[:, None], 0, 1)
        way = self.apart.T[:, :, None] * (np.sign(since) * progress * progress * (3 - 2 * progress))
        share = self.near_share[:, None]
        led = centre.copy()
        led[:, self.near], led[:, self.far] = middle + share * way, middle - (1 - share) * way
        return led


@dataclass(frozen=True)
class Motion:
    """Parameters of the trajectories of N objects, in pixels, frames and turns; pairs are in x, y order.

    frame: (width, height). home, velocity, sway, sway_phase: (N, 2). period: (N,) of sway, size and bend. herd: (2,)
    the point to which every trajectory is drawn, by the factor herd_pull. radius, scale (octaves), scale_phase, turn,
    turn_rate: (N,). bend, bend_phase: (N, 4). leaves: (N,) bool. exits: (N, 2), the side by which an object leaves
    and the one from which it comes back: 0 left, 1 right, 2 top, 3 bottom. exit_time: (N,), frames. crossings: None if
    no paths cross.
    """

    frame: tuple[int, int]
    length: int
    home: np.ndarray
    velocity: np.ndarray
    sway: np.ndarray
    sway_phase: np.ndarray
    period: np.ndarray
    herd: np.ndarray
    herd_pull: float
    radius: np.ndarray
    scale: np.ndarray
    scale_phase: np.ndarray
    turn: np.ndarray
    turn_rate: np.ndarray
    bend: np.ndarray
    bend_phase: np.ndarray
    leaves: np.ndarray
    exits: np.ndarray
    exit_time: np.ndarray
    crossings: Crossings | None = None

    def poses(self, times: np.ndarray) -> Poses:
        """times: (T,) float64, frames."""
        cycles = times[None, :] / self.period[:, None]
        radius = self.radius[:, None] * np.exp2(self.scale[:, None] * _wave(cycles + self.scale_phase[:, None]))
        centre = self._centres(times, cycles)
        if self.crossings is not None:
            centre = self.crossings.led(centre, np.array(self.frame, np.float64), times)
        if self.leaves.any():
            centre = self._with_exits(centre, radius, times)
        angle = _TAU * (self.turn[:, None] + self.turn_rate[:, None] * times)
        bend = self.bend[:, None, :] * _wave(1.7 * cycles[:, :, None] + self.bend_phase[:, None, :])
        x, y = quantised(centre, 64)
        cos, sin = quantised(np.cos(angle), 4096), quantised(np.sin(angle), 4096)
        return Poses(x, y, quantised(radius, 64), cos, sin, quantised(bend, 4096))

    def _centres(self, times: np.ndarray, cycles: np.ndarray) -> np.ndarray:
        """(2, N, T): straight on and swaying, reflected at the borders of the frame, drawn to the herd."""
        frame = np.array(self.frame, np.float64)[:, None, None]
        sway = self.sway.T[:, :, None] * _wave(cycles + self.sway_phase.T[:, :, None])
        straight = self.home.T[:, :, None] + self.velocity.T[:, :, None] * (times - (self.length - 1) / 2)
        margin = np.minimum(0.7 * self.radius[:, None], 0.45 * frame)
        span = frame - 2 * margin
        folded = np.mod(straight + sway - margin, 2 * span)
        inside = margin + np.minimum(folded, 2 * span - folded)
        return inside + self.herd_pull * (self.herd[:, None, None] - inside)

    def _with_exits(self, centre: np.ndarray, radius: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Pushes the objects that leave out of the frame around their exit time, and back in from another side."""
        since = (times - self.exit_time[:, None]) / self.length
        progress = np.clip((_ON_THE_WAY - np.abs(since)) / (_ON_THE_WAY - _OUT), 0, 1)
        push = progress * progress * (3 - 2 * progress) * self.leaves[:, None]
        side = np.where(since < 0, self.exits[:, :1], self.exits[:, 1:])
        reach = MAX_REACH * radius / (1 - np.abs(self.bend).sum(axis=1, keepdims=True))
        beyond = np.zeros_like(centre)
        for axis in (0, 1):
            target = np.where(side == 2 * axis, -reach, self.frame[axis] + reach)
            beyond[axis] = np.where(side // 2 == axis, target - centre[axis], 0)
        return centre + push * beyond


def _wave(turns: np.ndarray) -> np.ndarray:
    return np.sin(_TAU * turns)


def make_motion(config: SyntheticConfig, stream: Stream, radius: np.ndarray, length: int) -> Motion:
    """Draws the trajectories of objects with these mean radii, (N,) pixels."""
    count, dials = len(radius), config.dials
    frame = np.array([config.width, config.height], np.float64)
    speed = dials.speed * config.height / _TINY_HEIGHT
    heading = _TAU * stream.numbers(0, 1, count, 1)
    return Motion(
        frame=(config.width, config.height),
        length=length,
        home=_spread_points(stream, frame, radius),
        velocity=speed * stream.numbers(0.3, 2.2, count, 1) * np.hstack([np.cos(heading), np.sin(heading)]),
        sway=speed * stream.numbers(1, 7, count, 2),
        sway_phase=stream.numbers(0, 1, count, 2),
        period=stream.numbers(9, 24, count),
        herd=frame * stream.numbers(0.38, 0.62, 2),
        herd_pull=0.62 * dials.occlusion,
        radius=radius,
        scale=dials.scale * stream.numbers(0.5, 1, count),
        scale_phase=stream.numbers(0, 1, count),
        turn=stream.numbers(0, 1, count),
        turn_rate=dials.speed * stream.numbers(-0.012, 0.012, count),
        bend=dials.deformation * stream.numbers(0.4, 1, count, 4) * np.array([0.1, 0.1, 0.07, 0.07]),
        bend_phase=stream.numbers(0, 1, count, 4),
        leaves=(stream.numbers(0, 1, count) < dials.leave) & (length >= 5),
        exits=stream.integers(4, count, 2),
        exit_time=(length - 1) / 2 + length * stream.numbers(-_OFF_MIDDLE, _OFF_MIDDLE, count),
    )


def _spread_points(stream: Stream, frame: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(N, 2): each point is, of 12 drawn, the one with most room to those before it."""
    points = np.empty((len(radius), 2))
    for position, own in enumerate(radius):
        margin = np.minimum(0.8 * own, 0.4 * frame)
        drawn = quantised(margin + (frame - 2 * margin) * stream.numbers(0, 1, 12, 2), 64)
        gap = np.abs(drawn[:, None] - points[:position])
        room = np.maximum(gap[..., 0], gap[..., 1]) - radius[:position]
        points[position] = drawn[np.argmax(room.min(axis=1, initial=np.inf))]
    return points
