"""Planes of embeddings: which point looks how, and what the legend says."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from vislab.report.figures.embedding_figures import EmbeddingPlane, draw_planes
from vislab.report.videos.overlays import identity_colour

CATEGORIES = {3: "disc", 5: "star", 8: "disc"}


def plane(title: str, seed: int) -> EmbeddingPlane:
    objects = np.array([3, 3, 5, 8, 8, 8])
    return EmbeddingPlane(title, np.random.default_rng(seed).normal(size=(6, 2)), objects)


def drawn(axes: Axes) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in axes.lines]


def test_a_colour_for_each_object_a_marker_for_each_category() -> None:
    planes = [plane("without", 0), plane("with", 1)]
    figure = draw_planes(planes, CATEGORIES)
    assert [axes.get_title() for axes in figure.axes] == ["without", "with"]
    for axes, shown in zip(figure.axes, planes, strict=True):
        for points, number in zip(drawn(axes), CATEGORIES, strict=True):
            np.testing.assert_array_equal(points, shown.points[shown.objects == number])
        assert [line.get_marker() for line in axes.lines] == ["o", "^", "o"]
        colours = [to_hex(line.get_color()) for line in axes.lines]
        assert colours == ["#{:02x}{:02x}{:02x}".format(*identity_colour(place)) for place in range(3)]
        assert not axes.get_xticks().size and not axes.get_yticks().size
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["disc 1", "star", "disc 2"]


def test_more_categories_than_markers() -> None:
    many = {number: f"category {number}" for number in range(11)}
    shown = EmbeddingPlane("", np.zeros((11, 2)), np.arange(11))
    markers = [line.get_marker() for line in draw_planes([shown], many).axes[0].lines]
    assert len(set(markers[:8])) == 8 and markers[8:] == markers[:3]
