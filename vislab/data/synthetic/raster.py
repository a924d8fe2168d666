"""From poses to pixels: silhouettes, who hides whom, painted objects.

All pixel arithmetic is float32 with + - * / min max sqrt floor, which IEEE 754 fixes to the last bit, without matrix
products or sums whose order a library may choose. Shape letters: N objects, H W frame, h w crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vislab.data.synthetic.motion import Poses
from vislab.data.synthetic.palette import Paint
from vislab.data.synthetic.shapes import SHAPES
from vislab.data.synthetic.textures import TEXTURES

_SHADOW_DARKNESS = 0.28
_RIM_DARKNESS = 0.4
_LIGHT_SLOPE = 0.13  # change of brightness over one radius, to the right and down


@dataclass(frozen=True)
class Silhouette:
    """One object of one frame, on the crop that holds all of it, also what lies outside of the frame.

    left, top: of the crop, in frame pixels, may be negative. distance: (h, w) float32, pixels to the outline, negative
    inside. x, y: (h, w) float32 local coordinates. across, down: (w,), (h,) float32 pixels from the centre. radius in
    pixels. area: number of pixels inside.
    """

    left: int
    top: int
    distance: np.ndarray
    x: np.ndarray
    y: np.ndarray
    across: np.ndarray
    down: np.ndarray
    radius: float
    area: int


def silhouette(poses: Poses, position: int, time: int, shape: int) -> Silhouette:
    """Object `position` at the `time`-th of the poses' times. A pixel is inside when its centre is."""
    at = (position, time)
    radius, bend = float(poses.radius[at]), poses.bend[at]
    bent = float(np.abs(bend).sum())
    reach = SHAPES[shape].reach * radius / (1 - bent) + 1
    left, across = _pixels(float(poses.x[at]), reach, _shadow_offset(radius))
    top, down = _pixels(float(poses.y[at]), reach, _shadow_offset(radius))
    cos, sin = float(poses.cos[at]) / radius, float(poses.sin[at]) / radius
    x = cos * across + (sin * down)[:, None]
    y = (cos * down)[:, None] - sin * across
    if bent:
        swell = _swell(x, y, bend.tolist())
        x, y = x * swell, y * swell
        distance = SHAPES[shape].outline(x, y) * radius / swell
    else:
        distance = SHAPES[shape].outline(x, y) * radius
    return Silhouette(left, top, distance, x, y, across, down, radius, int(np.count_nonzero(distance <= 0)))


def _pixels(centre: float, reach: float, shadow: int) -> tuple[int, np.ndarray]:
    """First pixel of a crop along one axis, and the distances of its pixel centres from the object's centre."""
    first = int(np.floor(centre - reach))
    count = int(np.ceil(centre + reach)) + shadow - first
    return first, (np.arange(first, first + count) + (0.5 - centre)).astype(np.float32)


def _swell(x: np.ndarray, y: np.ndarray, bend: list[float]) -> np.ndarray:
    """1 + b0 cos 2a + b1 sin 2a + b2 cos 3a + b3 sin 3a, where a is the polar angle; by the angle formulas."""
    xx, yy = x * x, y * y
    square = xx + yy + 1e-6
    second = (bend[0] * (xx - yy) + (2 * bend[1]) * (x * y)) / square
    third = (bend[2] * (x * (xx - 3 * yy)) + bend[3] * (y * (3 * xx - yy))) / (square * np.sqrt(square))
    return 1 + second + third


def _shadow_offset(radius: float) -> int:
    """Pixels by which the soft shadow falls to the right and down."""
    return max(1, int(radius * 0.09))


def owners(silhouettes: list[Silhouette], height: int, width: int) -> np.ndarray:
    """(H, W) int8: the nearest object whose silhouette holds the pixel, -1 for none. Ordered from far to near."""
    owner = np.full((height, width), -1, np.int8)
    for position, shape in enumerate(silhouettes):
        window, crop = inside_frame(shape, height, width)
        owner[window][shape.distance[crop] <= 0] = position
    return owner


def inside_frame(shape: Silhouette, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The common part of crop and frame, as slices of the frame and of the crop; empty slices if there is none."""
    rows, crop_rows = _common(shape.top, len(shape.down), height)
    columns, crop_columns = _common(shape.left, len(shape.across), width)
    return (rows, columns), (crop_rows, crop_columns)


def _common(first: int, count: int, size: int) -> tuple[slice, slice]:
    start = min(max(first, 0), size)
    stop = max(min(first + count, size), start)
    return slice(start, stop), slice(start - first, stop - first)


def paint(
    canvas: np.ndarray,
    shape: Silhouette,
    texture: int,
    colours: Paint,
    opacity: float,
    missing: np.ndarray | None = None,
) -> None:
    """Draws one object and its soft shadow onto canvas, (3, H, W) float32, in place.

    missing: (h, w) float32 in [0, 1], the parts of the crop's pixels where neither of them is drawn.
    """
    (rows, columns), crop = inside_frame(shape, *canvas.shape[1:])
    region = canvas[:, rows, columns]
    if not region.size or not opacity:
        return
    shadow = _shadow(shape)[crop]
    region *= 1 - opacity * (shadow if missing is None else shadow * (1 - missing[crop]))
    distance = shape.distance[crop]
    shade = _shade(distance, shape.across[crop[1]], shape.down[crop[0]], shape.radius)
    first, second = (np.array(colour, np.float32)[:, None, None] for colour in colours)
    if texture == 0:
        colour = first * shade
    else:
        colour = (second - first) * TEXTURES[texture].weight(shape.x[crop], shape.y[crop], 1 / shape.radius)
        colour += first
        colour *= shade
    colour -= region
    colour *= _unit(0.5 - distance) * opacity
    if missing is not None:
        colour *= 1 - missing[crop]
    region += colour


def _unit(values: np.ndarray) -> np.ndarray:
    """Clips to [0, 1], in place."""
    return np.minimum(np.maximum(values, 0, out=values), 1, out=values)


def _shade(distance: np.ndarray, across: np.ndarray, down: np.ndarray, radius: float) -> np.ndarray:
    """Light from the upper left and a dark rim, as a factor on the colour, (h, w)."""
    rim = _unit(1 + distance * (1 / max(1.2, 0.07 * radius)))
    light = (1 - across * (_LIGHT_SLOPE / radius)) - (down * (_LIGHT_SLOPE / radius))[:, None]
    return light * (1 - _RIM_DARKNESS * rim)


def _shadow(shape: Silhouette) -> np.ndarray:
    """Darkness of the shadow, (h, w): the silhouette with a soft edge, moved to the right and down."""
    offset = _shadow_offset(shape.radius)
    moved = np.zeros_like(shape.distance)
    soft = 0.5 - shape.distance[:-offset, :-offset] * (0.5 / (offset + 1))
    moved[offset:, offset:] = _unit(soft) * _SHADOW_DARKNESS
    return moved
