"""Instances as they are drawn: in the order and the colours of the labels."""

from __future__ import annotations

import pytest
from two_objects import LEFT, RIGHT, mask, predictions, truth

from vislab.report.videos.overlays import CROWD, identity_colour
from vislab.report.videos.tracks import Track, predicted_tracks, true_tracks


def test_labelled_instances_have_colours_in_their_order() -> None:
    tracks = true_tracks(truth([LEFT, None], [RIGHT, RIGHT]), 5)
    assert [track.label for track in tracks] == ["cat", "dog"]
    assert [track.colour for track in tracks] == [identity_colour(0), identity_colour(1)]
    assert tracks[0].overlay(1) is None
    overlay = tracks[0].overlay(0)
    assert overlay is not None and overlay.mask[LEFT].all() and overlay.mask.sum() == 200
    assert true_tracks(truth([LEFT, None]), 6) == []


def test_crowds_are_grey() -> None:
    (track,) = true_tracks(truth([LEFT, LEFT], crowd=1), 5)
    assert (track.colour, track.label) == (CROWD, "cat (crowd)")


def test_predictions_take_the_colour_of_what_they_overlap_over_the_video() -> None:
    labels = truth([LEFT, LEFT], [RIGHT, RIGHT])
    middle = (slice(0, 20), slice(12, 18))
    found = predictions(
        labels, (0.5, [RIGHT, RIGHT]), (0.9, [LEFT, RIGHT]), (0.4, [middle, middle]), (0.29, [LEFT] * 2)
    )
    tracks = predicted_tracks(labels, found, 5, 0.3)
    assert [track.label for track in tracks] == ["dog 0.90", "dog 0.50", "dog 0.40"]
    assert [track.colour for track in tracks] == [identity_colour(0), identity_colour(1), identity_colour(2)]
    assert predicted_tracks(labels, found, 6, 0.3) == []


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_without_labels_every_prediction_has_its_own_colour(score: float) -> None:
    labels = truth()
    tracks = predicted_tracks(labels, predictions(labels, (score, [LEFT, None]), (score, [LEFT, None])), 5, score)
    assert tracks == [Track(identity_colour(n), f"dog {score:.2f}", [mask(LEFT), None]) for n in range(2)]
