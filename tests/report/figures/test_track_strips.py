"""Strips of frames: whose colour a track has, which mask is on top, where marks stand."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from two_objects import LEFT, RIGHT, mask, predictions, truth

from vislab.report.figures.track_strips import Strip, StripRow, draw_strips, identity_tracks
from vislab.report.videos.overlays import CROWD, identity_colour
from vislab.report.videos.tracks import Track, true_tracks

FRAMES = np.full((2, 20, 30, 3), 128, np.uint8)
BLUE, ORANGE = identity_colour(0), identity_colour(1)


def drawn(axes: Axes, window: tuple[slice, slice]) -> np.ndarray:
    """Mean colour inside a part of the frame."""
    picture = np.asarray(axes.images[0].get_array(), float)
    scale = picture.shape[1] / 30
    rows, columns = (slice(int(scale * (s.start + 3)), int(scale * (s.stop - 3))) for s in window)
    return picture[rows, columns].mean(axis=(0, 1))


def is_coloured(axes: Axes, window: tuple[slice, slice], colour: tuple[int, int, int] | None) -> bool:
    """Whether a part of a grey frame has this fill, or None."""
    shift = drawn(axes, window) - 128
    if colour is None:
        return bool(np.abs(shift).max() < 2)
    wanted = np.array(colour) - 128
    return float(shift @ wanted / np.linalg.norm(shift) / np.linalg.norm(wanted)) > 0.99


def test_each_track_has_a_colour_of_its_own_that_of_its_object_if_it_is_free() -> None:
    labels = truth([LEFT, LEFT], [RIGHT, RIGHT])
    middle = (slice(0, 20), slice(12, 18))
    found = predictions(
        labels, (0.9, [RIGHT, RIGHT]), (0.8, [RIGHT, None]), (0.7, [LEFT, RIGHT]), (0.6, [middle, middle])
    )
    tracks = identity_tracks(labels, found, 5)
    assert [track.colour for track in tracks] == [identity_colour(n) for n in (1, 2, 0, 3)]
    assert [track.masks for track in tracks] == [instance.track for instance in found]
    assert {track.label for track in tracks} == {""}
    assert identity_tracks(labels, found, 6) == [] and identity_tracks(labels, [], 5) == []
    unlabelled = truth()
    assert [t.colour for t in identity_tracks(unlabelled, predictions(unlabelled, (0.5, [LEFT, None])), 5)] == [BLUE]


def test_nobody_takes_the_colour_of_a_crowd() -> None:
    labels = truth([LEFT, LEFT], crowd=1)
    (track,) = identity_tracks(labels, predictions(labels, (0.5, [LEFT, LEFT])), 5)
    assert track.colour == ORANGE != CROWD


def test_the_earlier_track_hides_the_later_unless_that_is_on_top() -> None:
    tracks = [Track(BLUE, "first", [mask(LEFT)] * 2), Track(ORANGE, "second", [mask(LEFT), mask(RIGHT)])]
    figure = draw_strips([Strip(FRAMES, (0, 1), [StripRow("a", tracks), StripRow("b", tracks, on_top=[[1], [1]])])])
    above, below = figure.axes[:2], figure.axes[2:]
    assert is_coloured(above[0], LEFT, BLUE) and is_coloured(below[0], LEFT, ORANGE)
    for axes in (above[1], below[1]):
        assert is_coloured(axes, LEFT, BLUE) and is_coloured(axes, RIGHT, ORANGE)
    assert is_coloured(above[0], RIGHT, None)


def test_frames_are_those_of_the_video_and_lose_their_colour() -> None:
    red = np.zeros((2, 20, 30, 3), np.uint8)
    red[..., 0] = 200
    tracks = [Track(BLUE, "", [None, None, mask(LEFT), None])]
    figure = draw_strips([Strip(red, (2, 3), [StripRow("a", tracks)])])
    first, second = figure.axes
    assert first.get_title(loc="left") == "a" and np.ptp(drawn(second, LEFT)) < 40
    assert np.abs(drawn(first, LEFT) - drawn(second, LEFT)).max() > 20
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["frame 2", "frame 3"]


def test_marks_have_a_border_and_lines_go_around_the_objects_that_are_outlined() -> None:
    inside = np.zeros((20, 30), bool)
    inside[5:15, 20:28] = True
    row = StripRow("a", [], marks=["", "loss"], outlined=[[], [inside, np.zeros_like(inside)]])
    figure = draw_strips([Strip(FRAMES, (0, 1), [row]), Strip(FRAMES, (4, 5), [row])])
    for first, second in (figure.axes[:2], figure.axes[2:]):
        assert not first.spines["left"].get_visible() and second.spines["left"].get_visible()
        assert "loss" in {text.get_text() for text in second.texts}
        assert not first.collections and len(second.collections) == 1
        points = np.concatenate([path.vertices for path in second.collections[0].get_paths()])
        np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], [[20, 5], [28, 15]])


def test_labels_of_the_truth_are_left_out() -> None:
    labels = truth([LEFT, LEFT])
    figure = draw_strips([Strip(FRAMES, (0, 1), [StripRow("ground truth", true_tracks(labels, 5))])])
    assert is_coloured(figure.axes[0], LEFT, BLUE) and is_coloured(figure.axes[0], RIGHT, None)
