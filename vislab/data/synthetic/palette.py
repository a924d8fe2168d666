"""Colours: calm backgrounds, vivid objects, always far enough apart."""

from __future__ import annotations

from typing import NamedTuple

from vislab.data.synthetic.randomness import Stream

RGB = tuple[int, int, int]  # 0..255


class Paint(NamedTuple):
    """First and second colour of an object."""

    first: RGB
    second: RGB


class Tints(NamedTuple):
    """Upper and lower colour of a background."""

    upper: RGB
    lower: RGB


# Muted neighbours between which a background fades.
BACKGROUNDS: tuple[Tints, ...] = (
    Tints((38, 56, 78), (66, 98, 112)),
    Tints((196, 184, 164), (224, 214, 196)),
    Tints((62, 74, 58), (104, 118, 86)),
    Tints((70, 54, 84), (122, 92, 116)),
    Tints((150, 170, 182), (196, 206, 206)),
    Tints((96, 70, 58), (146, 112, 88)),
    Tints((34, 40, 52), (70, 74, 88)),
    Tints((164, 178, 150), (206, 206, 176)),
    Tints((44, 82, 84), (96, 132, 120)),
    Tints((202, 170, 154), (226, 204, 186)),
)

# Vivid first colours; the second colour is cream or ink, whichever contrasts more.
VIVID: tuple[RGB, ...] = (
    (226, 62, 52),
    (242, 140, 34),
    (250, 204, 46),
    (86, 176, 64),
    (24, 150, 136),
    (42, 124, 214),
    (92, 72, 196),
    (200, 66, 156),
    (240, 128, 152),
    (120, 206, 230),
    (246, 240, 226),
    (36, 34, 46),
)
_CREAM, _INK = (250, 244, 230), (38, 32, 50)
_CONTRAST = 150


def distance(a: RGB, b: RGB) -> int:
    """Difference of two colours, 0..765: weighted sum over the channels, green counts twice red, four times blue."""
    red, green, blue = (abs(p - q) for p, q in zip(a, b, strict=True))
    return (2 * red + 4 * green + blue) * 3 // 7


_COMPANION = {colour: max((_CREAM, _INK), key=lambda other: distance(colour, other)) for colour in VIVID}
_FAR_ENOUGH = {
    tints: [colour for colour in VIVID if min(distance(colour, tint) for tint in tints) >= _CONTRAST]
    for tints in BACKGROUNDS
}


def background_tints(stream: Stream) -> Tints:
    """Two tints; either may be the upper one."""
    tints = BACKGROUNDS[stream.integer(len(BACKGROUNDS))]
    return tints if stream.number() < 0.5 else Tints(tints.lower, tints.upper)


def object_paint(stream: Stream, tints: Tints) -> Paint:
    """A vivid colour that stands out from both tints of the background, with its companion."""
    colours = _FAR_ENOUGH[tints] if tints in _FAR_ENOUGH else _FAR_ENOUGH[Tints(tints.lower, tints.upper)]
    first = colours[stream.integer(len(colours))]
    return Paint(first, _COMPANION[first])
