"""The outlines of the objects, as signed distance functions in local coordinates.

Every function takes x, y (any shape, float32; x to the right, y down; the object's nominal radius is 1) and returns
the distance to the outline, negative inside. All are maxima and minima of planes and discs: only + - * max min sqrt,
which IEEE 754 fixes to the last bit, so that masks are the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Shape(NamedTuple):
    """reach: no point of the shape is further from its centre."""

    name: str
    outline: Outline
    reach: float


def _fan(count: int, turn: float = 0.0) -> list[tuple[float, float]]:
    """`count` unit vectors at equal angles, the first pointing up and turned by `turn` of a full circle."""
    angles = [2 * math.pi * (k / count + turn) for k in range(count)]
    return [(round(math.sin(a), 6), round(-math.cos(a), 6)) for a in angles]


_THREE, _FIVE, _FIVE_DOWN = _fan(3, 0.5), _fan(5), _fan(5, 0.5)


def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Disc around the origin."""
    return np.sqrt(x * x + y * y) - 0.86


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Square with sharp corners."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.76


def triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equilateral triangle: the largest of three half-planes."""
    planes = [nx * x + ny * y for nx, ny in _THREE]
    return np.maximum(np.maximum(planes[0], planes[1]), planes[2]) - 0.6


def star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pentagram: inside all but at most one of five half-planes, so the second largest of them."""
    largest = np.full_like(x, -np.inf)
    second = largest
    for nx, ny in _FIVE_DOWN:
        plane = nx * x + ny * y
        second = np.maximum(second, np.minimum(largest, plane))
        largest = np.maximum(largest, plane)
    return second - 0.4


def cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Plus sign: union of two bars."""
    ax, ay = np.abs(x), np.abs(y)
    long, short = np.maximum(ax, ay), np.minimum(ax, ay)
    return np.maximum(long - 0.98, short - 0.37)


def ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Annulus: one object with a hole, through which the background shows."""
    return np.abs(np.sqrt(x * x + y * y) - 0.73) - 0.27


def heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square of half side 0.56 on its corner and two discs on its upper sides."""
    down, ax = y - 0.2, np.abs(x)
    body = (ax + np.abs(down)) * 0.707107 - 0.56
    lobes = np.sqrt(np.square(ax - 0.396) + np.square(down + 0.396)) - 0.56
    return np.minimum(body, lobes)


def crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A disc without a smaller one."""
    left = x - 0.25
    outer = np.sqrt(left * left + y * y) - 1.05
    return np.maximum(outer, 0.78 - np.sqrt(np.square(left - 0.6) + y * y))


def capsule(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Thick line with round ends."""
    beyond = np.maximum(np.abs(x) - 0.72, 0)
    return np.sqrt(beyond * beyond + y * y) - 0.48


def flower(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five petals: union of five discs around the centre."""
    nearest = x * x + y * y
    for nx, ny in _FIVE:
        nearest = np.minimum(nearest, np.square(x - 0.56 * nx) + np.square(y - 0.56 * ny))
    return np.sqrt(nearest) - 0.42


SHAPES: tuple[Shape, ...] = (
    Shape("disc", disc, 0.86),
    Shape("square", square, 1.08),
    Shape("triangle", triangle, 1.2),
    Shape("star", star, 1.3),
    Shape("cross", cross, 1.05),
    Shape("ring", ring, 1.0),
    Shape("heart", heart, 1.01),
    Shape("crescent", crescent, 1.24),
    Shape("capsule", capsule, 1.2),
    Shape("flower", flower, 0.98),
)

MAX_REACH = max(shape.reach for shape in SHAPES)
