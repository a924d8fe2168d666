"""Drawings and pictures inside a page: in its colours, without anything from outside, the same every time."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vislab.report.figures.style import PLOT
from vislab.report.runs.inline_figures import data_uri, drawn_for_page, inline_svg


def drawing() -> Figure:
    with drawn_for_page(), matplotlib.rc_context(PLOT):
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0], color="black")
        axes.plot([0, 1], [0, 1], marker="o")
        axes.set(title="a & b < c", xlabel="$x_1$")
        axes.legend(["one"])
    return figure


def test_a_drawing_is_xml_in_the_colours_of_the_page() -> None:
    text = inline_svg(drawing())
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and root.get("viewBox") and root.get("width") is None
    assert "a &amp; b &lt; c" in text, "text stays text"
    assert {"var(--ink)", "var(--rule)"} <= set(re.findall(r"var\(--\w+\)", text))
    assert not re.search("#000000|#ffffff|#010101", text), "black on a dark page"
    assert "<metadata" not in text


def test_two_drawings_share_no_name_but_of_equal_parts() -> None:
    parts = [dict(re.findall(r'<(\w+) id="([^"]+)"', inline_svg(drawing()))) for _ in range(2)]
    assert parts[0] == parts[1]
    referred = set(re.findall(r'(?:href="|url\()#([\w-]+)', inline_svg(drawing())))
    assert referred <= set(re.findall(r' id="([^"]+)"', inline_svg(drawing())))


def test_equal_drawings_are_equal_text() -> None:
    assert inline_svg(drawing()) == inline_svg(drawing())


def test_a_picture_is_data() -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = (200, 30, 60)
    uri = data_uri(Image.fromarray(pixels))
    kind, _, content = uri.partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert kind == "data:image/jpeg" and picture.size == (16, 8)
    assert np.abs(np.asarray(picture).astype(int) - pixels).max() < 12
