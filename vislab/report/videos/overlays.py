"""Masks drawn over a frame: for each instance a translucent fill, a contour and a label.

Shape letters: H W size of the frame, h w size as drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

__all__ = ["CROWD", "PALETTE", "RGB", "Overlay", "draw_overlays", "identity_colour"]

RGB = tuple[int, int, int]  # 0..255
Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, the last two exclusive

# Okabe and Ito, "Color Universal Design" (2008): told apart with any kind of colour vision. Black is left out.
PALETTE: tuple[RGB, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 158, 115),
    (0, 114, 178),
)
CROWD: RGB = (150, 150, 150)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SHADES = ((_WHITE, 0.0), (_WHITE, 0.55), (_BLACK, 0.45))  # of each colour, once the plain ones are used up

_FILL = 0.42  # opacity
_HALO = 0.55  # brightness that the pixels just outside of a contour keep, so that it shows on its own colour too
_FONT_SIZE, _PADDING = 11, 3  # pixels
_TAG_COST = 10  # of hiding a pixel of another tag, relative to one of an instance
_GAP_COST = 8  # of a pixel between a tag and its instance


@dataclass(frozen=True)
class Overlay:
    """One instance in one frame. mask: (H, W) bool. label: may be empty."""

    mask: np.ndarray
    colour: RGB
    label: str = ""


def identity_colour(identity: int) -> RGB:
    """Colour of the identity >= 0: the palette, then it lightened, then darkened; repeats after 21."""
    shade, strength = _SHADES[identity // len(PALETTE) % len(_SHADES)]
    red, green, blue = (
        round((1 - strength) * own + strength * other)
        for own, other in zip(PALETTE[identity % len(PALETTE)], shade, strict=True)
    )
    return red, green, blue


def draw_overlays(frame: np.ndarray, overlays: Sequence[Overlay], scale: float = 1.0) -> Image.Image:
    """The frame with its instances drawn, larger ones below smaller ones.

    frame: (H, W, 3) uint8 RGB. scale: pixels of the drawing per pixel of the frame; lines and text keep their width.
    Empty masks are not drawn.
    """
    height, width = frame.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(frame)
    drawing = np.array(picture if scale == 1 else picture.resize(size, Image.Resampling.LANCZOS))
    scaled = [(_resized(overlay.mask, size), overlay) for overlay in overlays]
    visible = sorted(((m, overlay) for m, overlay in scaled if m.any()), key=lambda pair: -int(pair[0].sum()))
    for mask, overlay in visible:
        drawing[mask] = np.rint((1 - _FILL) * drawing[mask] + _FILL * np.array(overlay.colour)).astype(np.uint8)
    line_width = 1 if min(size) < 120 else 2
    for mask, overlay in visible:
        _draw_contour(drawing, mask, overlay.colour, line_width)
    result = Image.fromarray(drawing)
    _draw_labels(result, visible)
    return result


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool; the edge lies where the interpolated mask crosses one half."""
    if mask.shape == size[::-1]:
        return mask
    return np.asarray(_as_image(mask).resize(size, Image.Resampling.BILINEAR)) >= 128


def _as_image(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _draw_contour(drawing: np.ndarray, mask: np.ndarray, colour: RGB, width: int) -> None:
    """A line inside of the mask's edge, and a darker one of a pixel around it. Open where the mask leaves the frame."""
    x1, y1, x2, y2 = _tight_box(mask)
    around = slice(max(0, y1 - width - 1), y2 + width + 1), slice(max(0, x1 - width - 1), x2 + width + 1)
    drawing, mask = drawing[around], mask[around]
    inner = ndimage.minimum_filter(mask, 2 * width + 1, mode="nearest")
    outer = ndimage.maximum_filter(mask, 3, mode="nearest")
    halo = outer & ~mask
    drawing[halo] = np.rint(_HALO * drawing[halo]).astype(np.uint8)
    drawing[mask & ~inner] = colour


def _tight_box(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _draw_labels(image: Image.Image, visible: Sequence[tuple[np.ndarray, Overlay]]) -> None:
    """Tags beside the instances, the smaller instances first, where they hide little of other tags and instances."""
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT_SIZE)
    ascent, descent = font.getmetrics()  # type: ignore[union-attr]
    cost = np.zeros((image.height, image.width))
    for mask, _ in visible:
        cost[mask] = 1
    for mask, overlay in reversed(visible):
        if not overlay.label:
            continue
        width = round(draw.textlength(overlay.label, font)) + 2 * _PADDING
        left, top, right, bottom = _best_place(mask, width, ascent + descent + 2, cost)
        cost[top:bottom, left:right] = _TAG_COST
        draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius=_PADDING, fill=overlay.colour)
        draw.text((left + _PADDING, top + 1), overlay.label, fill=_ink(overlay.colour), font=font)


def _best_place(mask: np.ndarray, width: int, height: int, cost: np.ndarray) -> Box:
    """Of the places around a mask (h, w), inside the image, the one that hides least, close by and high up.

    cost: (h, w), of each pixel that is hidden.
    """
    x1, y1, x2, y2 = _tight_box(mask)
    middle, above = (x1 + x2 - width) // 2, y1 - height - 1
    lefts = [middle, x1, x2 - width, x1 - width - 2, x2 + 2]
    distance = ndimage.distance_transform_cdt(~mask, "taxicab")
    places = []
    for top, left in itertools.product(range(above, y2 + 2, 3), lefts):
        left, top = min(left, cost.shape[1] - width), min(top, cost.shape[0] - height)
        left, top = max(left, 0), max(top, 0)
        covered = slice(top, top + height), slice(left, left + width)
        detour = _GAP_COST * distance[covered].min() + abs(top - above) + abs(left - middle)
        hidden = cost[covered].sum()
        places.append((hidden + detour, (left, top, left + width, top + height)))
    return min(places)[1]


def _ink(colour: RGB) -> RGB:
    """Black or white, whichever is easier to read on the colour (luma of ITU-R BT.601)."""
    return _BLACK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 128 else _WHITE
