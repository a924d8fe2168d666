"""Text and rules on a white sheet, written as a small PNG: few inks, a palette, letters of the font in matplotlib.

Pillow draws the letters: a table has hundreds of words, and takes it a tenth of a second where matplotlib takes one.
Shape letters: H height, W width, in pixels.
"""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["BAD", "DPI", "GOOD", "INK", "SOFT", "Face", "Sheet", "text_width", "wrapped"]

DPI = 200
INK, SOFT, GOOD, BAD = range(4)
_COLOURS = ((27, 31, 36), (106, 115, 125), (11, 114, 133), (176, 42, 55))  # as on pages
_SHADES = (3, 3, 2, 2)  # of each ink between white and itself; with white at most 16, which is 4 bits a pixel


@dataclass(frozen=True)
class Face:
    """size: in pixels."""

    size: int
    bold: bool = False

    @property
    def line_height(self) -> int:
        return round(1.35 * self.size)


@dataclass
class Sheet:
    """What is to be drawn; y runs downwards, from the top."""

    width: int
    _texts: list[tuple[float, float, str, Face, int]] = field(default_factory=list)
    _rules: list[tuple[float, float, float, int, int]] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, face: Face, ink: int = INK) -> None:
        """Text from x on in a line that begins at y."""
        self._texts.append((x, y + face.size, text, face, ink))

    def rule(self, left: float, right: float, y: float, thickness: int = 1, ink: int = INK) -> None:
        self._rules.append((left, right, y, thickness, ink))

    def png(self, height: int) -> bytes:
        """The file's content; equal sheets give equal bytes."""
        layers = [Image.new("L", (self.width, height)) for _ in _COLOURS]
        pens = [ImageDraw.Draw(layer) for layer in layers]
        for x, baseline, text, face, ink in self._texts:
            pens[ink].text((x, baseline), text, fill=255, font=_font(face), anchor="ls")
        for left, right, y, thickness, ink in self._rules:
            pens[ink].rectangle((left, y, right - 1, y + thickness - 1), fill=255)
        picture = Image.fromarray(_indices([np.asarray(layer) for layer in layers]))
        picture.putpalette(_palette())
        file = io.BytesIO()
        picture.save(file, "PNG", dpi=(DPI, DPI))
        return file.getvalue()


@functools.lru_cache(maxsize=4096)
def text_width(text: str, face: Face) -> int:
    """In pixels."""
    return math.ceil(_font(face).getlength(text))


def wrapped(text: str, face: Face, width: float) -> list[str]:
    """The text in lines of at most `width` pixels, broken between words, and inside of those that are wider."""
    lines: list[str] = []
    space, used = text_width(" ", face), 0
    for word in text.split():
        needed = text_width(word, face)
        if lines and used + space + needed <= width:
            lines[-1] += f" {word}"
            used += space + needed
        else:
            lines += [word] if needed <= width else _pieces(word, face, width)
            used = text_width(lines[-1], face)
    return lines


def _pieces(word: str, face: Face, width: float) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and text_width(pieces[-1] + letter, face) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _indices(layers: list[np.ndarray]) -> np.ndarray:
    """Coverage of each ink, (H, W) uint8 each, to places in the palette, (H, W) uint8; the last ink lies on top."""
    found, first = np.zeros(layers[0].shape, np.uint8), 1
    for coverage, shades in zip(layers, _SHADES, strict=True):
        shade = (np.arange(256) * shades + 127) // 255
        place = np.where(shade > 0, first + shade - 1, 0).astype(np.uint8)
        np.maximum(found, place[coverage], out=found)
        first += shades
    return found


def _palette() -> list[int]:
    """White, then the shades of each ink, faintest first: red, green, blue of each."""
    found = [255, 255, 255]
    for colour, shades in zip(_COLOURS, _SHADES, strict=True):
        for shade in range(1, shades + 1):
            found += [round(255 + (channel - 255) * shade / shades) for channel in colour]
    return found


@functools.cache
def _font(face: Face) -> ImageFont.FreeTypeFont:
    """The letters that every matplotlib brings along, laid out in the same way wherever Pillow runs."""
    name = "DejaVuSans-Bold.ttf" if face.bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), face.size, layout_engine=ImageFont.Layout.BASIC)
