"""Rows of frames on a page: where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from vislab.report.figures.frame_panels import draw_border, frame_grid

FRAMES = np.arange(3 * 40 * 60 * 3, dtype=np.uint32).reshape(3, 40, 60, 3).astype(np.uint8)


def test_rows_of_different_shapes_below_each_other() -> None:
    figure, panels = frame_grid([("wide", FRAMES), ("high", np.zeros((3, 80, 40, 3), np.uint8))])
    assert [row[0].get_title(loc="left") for row in panels] == ["wide", "high"]
    for row, (height, width) in zip(panels, ((40, 60), (80, 40)), strict=True):
        for axes in row:
            size = axes.get_position().size * figure.get_size_inches()
            assert size[1] / size[0] == pytest.approx(height / width)
            assert axes.get_xlim() == (0, width) and axes.get_ylim() == (height, 0)
        assert np.diff([axes.get_position().x0 for axes in row]).min() > 0
    assert panels[1][0].get_position().y1 < panels[0][0].get_position().y0
    assert panels[1][0].get_position().y0 >= 0 and panels[0][0].get_position().y1 <= 1


def test_rows_have_the_same_number_of_frames() -> None:
    with pytest.raises(AssertionError):
        frame_grid([("a", FRAMES), ("b", FRAMES[:2])])


def test_borders_are_drawn_when_asked_for() -> None:
    _, ((first, second, _),) = frame_grid([("a", FRAMES)])
    draw_border(second, "#d7191c")
    assert not first.spines["left"].get_visible() and second.spines["left"].get_visible()
