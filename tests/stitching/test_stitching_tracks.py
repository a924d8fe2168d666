"""What a track becomes: votes, means, floors."""

from __future__ import annotations

import numpy as np
import pytest

from vislab.rle import encode
from vislab.stitching import StitchingConfig, TrackedFrame, TrackedInstance, VideoTracks
from vislab.stitching.tracks import vote

CODE = encode(np.ones((2, 3), bool))


def tracks_of(frames: list[dict[int, tuple[int, float]]], code=CODE) -> VideoTracks:  # type: ignore[no-untyped-def]
    """frames: track -> (label, score)."""
    tracks = VideoTracks()
    for number, cells in enumerate(frames):
        instances = tuple(TrackedInstance(key, label, score, code) for key, (label, score) in cells.items())
        tracks.add([TrackedFrame(number, instances)])
    return tracks


def test_the_score_is_the_mean_over_the_frames_that_count() -> None:
    (found,) = tracks_of([{0: (1, 0.9)}, {}, {0: (1, 0.6)}]).instances(StitchingConfig(), top_k=10)
    assert found.score == 0.75 and found.label == 1
    assert found.segmentations == [CODE, None, CODE]


def test_the_most_common_category_or_the_one_of_most_score() -> None:
    frames = [{0: (2, 0.9)}, {0: (1, 0.3)}, {0: (1, 0.2)}]
    for policy, label in (("most_common", 1), ("score_weighted", 2)):
        config = StitchingConfig(class_policy=policy)  # type: ignore[arg-type]
        assert tracks_of(frames).instances(config, top_k=1)[0].label == label
    assert vote([5, 3], [1.0, 1.0]) == 3


def test_the_best_tracks_first_and_no_more_than_asked_for() -> None:
    tracks = tracks_of([{0: (0, 0.2), 1: (1, 0.8), 2: (2, 0.5), 3: (3, 0.8)}])
    assert [found.label for found in tracks.instances(StitchingConfig(), top_k=3)] == [1, 3, 2]


def test_tracks_must_score_more_than_both_floors() -> None:
    tracks = tracks_of([{0: (0, 0.002), 1: (1, 0.25), 2: (2, 0.5)}])
    assert [found.label for found in tracks.instances(StitchingConfig(), top_k=9)] == [2, 1]
    assert [found.label for found in tracks.instances(StitchingConfig(), top_k=9, score_threshold=0.25)] == [2]


def test_a_track_without_a_pixel_is_dropped_after_the_choice() -> None:
    """As from whole videos: it has taken its place among the best."""
    tracks = VideoTracks()
    tracks.add([TrackedFrame(0, (TrackedInstance(0, 0, 0.9, None), TrackedInstance(1, 1, 0.5, CODE)))])
    assert tracks.instances(StitchingConfig(), top_k=1) == []
    assert [found.label for found in tracks.instances(StitchingConfig(), top_k=2)] == [1]


def test_no_frames_and_frames_out_of_order() -> None:
    assert VideoTracks().instances(StitchingConfig(), top_k=10) == []
    with pytest.raises(AssertionError):
        VideoTracks().add([TrackedFrame(1, ())])
