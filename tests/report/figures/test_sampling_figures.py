"""Figures of sampling points: what is drawn where, and files that do not change by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vislab.errors import UserError
from vislab.report.figures.sampling_figures import FrameSamples, QueryView, draw_references, draw_samples
from vislab.report.figures.style import write_figure

FRAMES = np.arange(3 * 40 * 60 * 3, dtype=np.uint32).reshape(3, 40, 60, 3).astype(np.uint8)


def view(frame: int, boxes: bool = True, points: int = 5) -> QueryView:
    rng = np.random.default_rng(frame)
    samples = tuple(
        FrameSamples(
            reference=np.array([30.0, 20, 16, 10][: 4 if boxes else 2]) + t,
            points=rng.uniform(0, 40, (points, 2)),
            weights=np.full(points, (t + 1) / (6 * max(points, 1))),
        )
        for t in range(3)
    )
    return QueryView(f"query of frame {frame}", frame, samples)


def markers(axes: Axes) -> np.ndarray:
    return np.array([line.get_xydata()[0] for line in axes.lines])


def test_points_reference_and_share_of_every_frame() -> None:
    rows = [view(0), view(2)]
    figure = draw_samples(FRAMES, rows)
    assert len(figure.axes) == 6 and [axes.get_title(loc="left") for axes in figure.axes[::3]] == [
        v.title for v in rows
    ]
    for number, axes in enumerate(figure.axes):
        sample = rows[number // 3].samples[number % 3]
        drawn = np.asarray(axes.collections[0].get_offsets())
        np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(sample.points, axis=0))
        np.testing.assert_allclose(markers(axes), sample.reference[None, :2])
        assert axes.texts[0].get_text() == f"{100 * sample.weights.sum():.0f} %"
        (box,) = axes.patches
        x, y, width, height = sample.reference
        assert box.get_bbox().bounds == pytest.approx((x - width / 2, y - height / 2, width, height))
        assert axes.get_xlim() == (0, 60) and axes.get_ylim() == (40, 0)
    own = [axes.spines["left"].get_visible() for axes in figure.axes]
    assert own == [True, False, False, False, False, True]


def test_references_are_crosses_with_boxes_from_the_second_layer_on() -> None:
    figure = draw_references(FRAMES, [view(1, boxes=False), view(1)])
    assert [len(axes.patches) for axes in figure.axes] == [0] * 3 + [1] * 3
    assert all(len(axes.collections) == 0 and len(axes.texts) == 0 for axes in figure.axes)
    np.testing.assert_allclose(markers(figure.axes[2]), [[32, 22]] * 2)  # a white cross under a red one


def test_a_frame_without_points_is_drawn_all_the_same() -> None:
    figure = draw_samples(FRAMES, [view(0, points=0)])
    assert figure.axes[0].texts[0].get_text() == "0 %"


def test_frames_keep_their_shape_and_large_ones_are_shrunk() -> None:
    for height, width in ((40, 60), (600, 900), (1, 900), (90, 30)):
        frames = np.zeros((3, height, width, 3), np.uint8)
        figure = draw_references(frames, [view(0)])
        axes = figure.axes[0]
        size = axes.get_position().size * figure.get_size_inches()
        assert size[1] / size[0] == pytest.approx(height / width)
        assert axes.images[0].get_array().shape[1] <= max(320, min(width, 320))  # type: ignore[union-attr]
        assert axes.get_xlim() == (0, width)


def test_files_are_equal_byte_by_byte(tmp_path: Path) -> None:
    def figure() -> Figure:
        return draw_samples(FRAMES, [view(0)])

    first = write_figure(figure(), tmp_path / "a", "Fig2")
    assert [path.name for path in first] == ["Fig2.pdf", "Fig2.png"]
    second = write_figure(figure(), tmp_path / "b", "Fig2")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].read_bytes().startswith(b"%PDF") and b"/FontFile2" in first[0].read_bytes()
    with Image.open(first[1]) as picture:
        assert picture.width == 1380


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Fig2.pdf: cannot be written"):
        write_figure(draw_references(FRAMES, [view(0)]), tmp_path / "file", "Fig2")
