"""Feature maps under frames: values as colours on a common scale, labelled objects as lines."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from vislab.report.figures.feature_figures import MappedQuantity, draw_feature_maps
from vislab.report.figures.style import write_figure

FRAMES = np.arange(3 * 40 * 60 * 3, dtype=np.uint32).reshape(3, 40, 60, 3).astype(np.uint8)


def example() -> tuple[list[MappedQuantity], np.ndarray]:
    maps = np.zeros((4, 3, 40, 60))
    maps[0, 1, 10:20, 30:40], maps[1, 2] = 2.0, -0.5
    maps[2:] = np.random.default_rng(0).uniform(5, 6, (2, 3, 40, 60))
    objects = np.zeros((1, 3, 40, 60), bool)
    objects[0, 1, 10:20, 30:40] = True
    rows = [(f"row {number}", each) for number, each in enumerate(maps)]
    return [MappedQuantity((rows[0], rows[1])), MappedQuantity((rows[2], rows[3]))], objects


def test_rows_of_a_quantity_share_a_scale() -> None:
    quantities, objects = example()
    figure = draw_feature_maps("frames 0 to 2", FRAMES, quantities, objects)
    panels, bars = figure.axes[:15], figure.axes[15:]
    titles = [axes.get_title(loc="left") for axes in panels[::3]]
    assert titles == ["frames 0 to 2", "row 0", "row 1", "row 2", "row 3"]
    np.testing.assert_array_equal(panels[1].images[0].get_array(), FRAMES[1])
    viridis = matplotlib.colormaps["viridis"]
    for axes, place, share in ((panels[4], (15, 35), 1.0), (panels[4], (0, 0), 0.2), (panels[8], (0, 0), 0.0)):
        shown = np.asarray(axes.images[0].get_array())[place] / 255
        np.testing.assert_allclose(shown, viridis(share)[:3], atol=0.012)
    assert [[text.get_text() for text in bar.texts] for bar in bars] == [["\N{MINUS SIGN}0.5", "2"], ["5", "6"]]


def test_objects_are_outlined_on_the_maps_alone() -> None:
    quantities, objects = example()
    panels = draw_feature_maps("", FRAMES, quantities, objects).axes[:15]
    assert [len(axes.collections) for axes in panels] == [0, 0, 0] + [0, 1, 0] * 4
    points = np.concatenate([path.vertices for path in panels[4].collections[0].get_paths()])
    np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], [[30, 10], [40, 20]])
    assert all(axes.get_xlim() == (0, 60) and axes.get_ylim() == (40, 0) for axes in panels)


def test_maps_without_objects_or_contrast(tmp_path: Path) -> None:
    flat = MappedQuantity((("a", np.ones((3, 40, 60))), ("b", np.ones((3, 40, 60)))))
    written = write_figure(draw_feature_maps("", FRAMES, [flat], np.zeros((0, 3, 40, 60), bool)), tmp_path, "Fig5")
    again = write_figure(draw_feature_maps("", FRAMES, [flat], np.zeros((0, 3, 40, 60), bool)), tmp_path / "b", "Fig5")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    with Image.open(written[1]) as picture:
        assert picture.width == 1380
