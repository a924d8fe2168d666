"""Figures and pictures as parts of an HTML page: drawings that take the page's colours, frames as data."""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

_INK = "#010101"  # what is drawn in it takes the page's colour of text
_COLOURS = {_INK: "var(--ink)", "#000000": "var(--ink)", "#ffffff": "var(--paper)", "#e0e0e0": "var(--rule)",
            "#4d4d4d": "var(--soft)"}  # fmt: skip
_PAGE: Any = {
    **{name: _INK for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")},
    **{f"{part}.facecolor": "none" for part in ("figure", "axes", "savefig")},
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "vislab",  # equal figures give equal text
}
_POINTS_TO_PIXELS = 2.0  # so large is a point of print on the screen, at most
_JPEG = {"quality": 88, "subsampling": 0}


@contextlib.contextmanager
def drawn_for_page() -> Iterator[None]:
    """Figures that are made within the block fit `inline_svg`."""
    with matplotlib.rc_context(_PAGE):
        yield


def inline_svg(figure: Figure) -> str:
    """The figure as an <svg> element in the page's own colours, light or dark."""
    buffer = io.StringIO()
    with drawn_for_page():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[\w.]+_\d+"', "", text)  # of groups; they would stand twice on a page with two figures
    width = float(re.search(r'width="([\d.]+)pt"', text)[1])  # type: ignore[index]
    size = f'class="chart" role="img" style="max-width: {_POINTS_TO_PIXELS * width:.0f}px"'
    text = re.sub(r' width="[\d.]+pt"', f" {size}", re.sub(r' height="[\d.]+pt"', "", text, count=1), count=1)
    return re.sub("|".join(_COLOURS), lambda match: _COLOURS[match[0]], text).rstrip()


def data_uri(picture: Image.Image) -> str:
    """A picture as the src of an <img>."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", **_JPEG)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
