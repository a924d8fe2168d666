"""Masks before and after refinement: what stands in which panel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from vislab.report.figures.refinement_figures import RefinedObject, draw_refinement

FRAMES = np.arange(4 * 40 * 60 * 3, dtype=np.uint32).reshape(4, 40, 60, 3).astype(np.uint8)
GREEN, RED = (26 / 255, 150 / 255, 65 / 255, 1.0), (215 / 255, 25 / 255, 28 / 255, 1.0)


def square(left: int) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[10:20, left : left + 10] = True
    return mask


def example() -> RefinedObject:
    """Lost in frame 1 and recovered, damaged by refinement in frame 2, absent in frame 3."""
    empty = np.zeros((40, 60), bool)
    before = np.array([square(5), empty, square(5), empty])
    after = np.array([square(5), square(6), square(40), empty])
    truth = np.array([square(5), square(5), square(5), empty])
    qualities = np.array([1.0, 0.0, 1.0, np.nan]), np.array([1.0, 0.8, 0.0, np.nan])
    return RefinedObject("video 3, plain disc", FRAMES, (7, 8, 9, 10), before, after, qualities, truth)


def texts(axes: Axes) -> set[str]:
    return {text.get_text() for text in axes.texts}


def filled(axes: Axes) -> np.ndarray:
    """The mask that is drawn over the frame."""
    return np.asarray(axes.images[1].get_array())[..., 3] > 0


def test_every_panel_shows_its_mask_its_number_and_its_iou() -> None:
    shown = example()
    figure = draw_refinement([shown], 10)
    above, below = figure.axes[:4], figure.axes[4:]
    assert above[0].get_title(loc="left") == "video 3, plain disc: without refinement"
    assert below[0].get_title(loc="left") == "with refinement, window of 10 frames"
    for t in range(4):
        np.testing.assert_array_equal(filled(above[t]), shown.before[t])
        np.testing.assert_array_equal(filled(below[t]), shown.after[t])
    assert [texts(axes) for axes in above] == [
        {"IoU 1.00", "frame 7"}, {"IoU 0.00", "frame 8"}, {"IoU 1.00", "frame 9"}, {"frame 10"},
    ]  # fmt: skip
    assert [texts(axes) for axes in below] == [{"IoU 1.00"}, {"IoU 0.80"}, {"IoU 0.00"}, set()]
    for axes in figure.axes:
        assert axes.get_xlim() == (0, 60) and axes.get_ylim() == (40, 0)


def test_outlines_of_mask_and_truth_lie_on_their_edges() -> None:
    figure = draw_refinement([example()], 10)
    mask, truth = figure.axes[5].collections
    for outline, left in ((mask, 6), (truth, 5)):
        points = np.concatenate([path.vertices for path in outline.get_paths()])
        np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], [[left, 10], [left + 10, 20]])
    at_border = replace(example(), truth=None, after=np.ones((4, 40, 60), bool))
    points = draw_refinement([at_border], 10).axes[4].collections[0].get_paths()[0].vertices
    assert (points.min(), *points.max(axis=0)) == (0, 60, 40)


def test_what_changed_has_a_border_in_the_lower_row() -> None:
    figure = draw_refinement([example()], 10)
    spines = [axes.spines["left"] for axes in figure.axes]
    assert [spine.get_visible() for spine in spines] == [False] * 4 + [False, True, True, False]
    assert spines[5].get_edgecolor() == GREEN and spines[6].get_edgecolor() == RED


def test_without_labels_missing_masks_are_named() -> None:
    shown = replace(example(), truth=None, qualities=(np.array([1.0, 0, 1, 0]), np.array([1.0, 1, 1, 0])))
    figure = draw_refinement([shown], 4)
    assert [texts(axes) - {f"frame {n}" for n in shown.numbers} for axes in figure.axes] == [
        set(), {"no mask"}, set(), {"no mask"}, set(), set(), set(), {"no mask"},
    ]  # fmt: skip
    assert len(figure.axes[0].collections) == 1 and len(figure.axes[1].collections) == 0
    spines = [axes.spines["left"] for axes in figure.axes[4:]]
    assert [spine.get_visible() for spine in spines] == [False, True, False, False]
    assert spines[1].get_edgecolor() not in (GREEN, RED), "nobody knows whether it is right"


def test_objects_of_videos_of_any_size() -> None:
    tall = np.zeros((4, 90, 30, 3), np.uint8)
    masks = np.zeros((4, 90, 30), bool)
    figure = draw_refinement(
        [example(), RefinedObject("other", tall, (0, 1, 2, 3), masks, masks, (np.zeros(4),) * 2)], 2
    )
    assert len(figure.axes) == 16 and figure.axes[15].get_xlim() == (0, 30)
