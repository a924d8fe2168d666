"""The surfaces of the objects: where the second colour covers the first.

Every function takes local x, y (float32, object radius 1) and `pixel`, the size of a pixel in these units, and returns
the weight of the second colour in [0, 1], anti-aliased over about one pixel. Exact arithmetic only, like the shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Weight = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


class Texture(NamedTuple):
    name: str
    weight: Weight


def _bars(x: np.ndarray, period: float) -> np.ndarray:
    """Signed distance to bars of width period/2, one every period: positive inside."""
    phase = x * (1 / period)
    phase -= np.floor(phase)
    return (0.25 - np.abs(phase - 0.5)) * period


def _covered(depth: np.ndarray, pixel: float) -> np.ndarray:
    """1 where depth > 0, 0 where < 0, a ramp of one pixel between."""
    ramp = depth * (1 / pixel) + 0.5
    return np.minimum(np.maximum(ramp, 0, out=ramp), 1, out=ramp)


def plain(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """One colour."""
    return np.zeros_like(x)


def striped(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Parallel bars."""
    return _covered(_bars(x, 0.62), pixel)


def dotted(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Spots on a square grid, one at the centre."""
    u, v = x * 1.6 + 0.5, y * 1.6 + 0.5
    u, v = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return _covered((0.31 - np.sqrt(u * u + v * v)) * 0.625, pixel)


def chequered(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Chess board: inside a bar of exactly one of two directions."""
    a, b = _covered(_bars(x, 0.9), pixel), _covered(_bars(y, 0.9), pixel)
    return a + b - 2 * a * b


def banded(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Concentric rings."""
    return _covered(_bars(np.sqrt(x * x + y * y), 0.58), pixel)


def halved(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Two halves."""
    return _covered(y, pixel)


def zigzag(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Bars bent to and fro."""
    return _covered(_bars(y + 1.6 * _bars(x, 0.8), 0.72), pixel)


def latticed(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Thin lines in two directions."""
    return _covered(-0.09 - np.minimum(_bars(x, 0.6), _bars(y, 0.6)), pixel)


TEXTURES: tuple[Texture, ...] = (
    Texture("plain", plain),
    Texture("striped", striped),
    Texture("dotted", dotted),
    Texture("chequered", chequered),
    Texture("banded", banded),
    Texture("halved", halved),
    Texture("zigzag", zigzag),
    Texture("latticed", latticed),
)
