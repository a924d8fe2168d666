"""Which tracks are shown: the best of each video, the very same ones once."""

from __future__ import annotations

from tracking_sets import detection, labelled, read, strip

from vislab.metrics.best_tracks import best_tracks, distinct_tracks

A, B, C = strip(0, 4), strip(6, 10), strip(12, 16)


def test_equal_tracks_of_a_video_count_once_with_their_best_score() -> None:
    _, found = read(
        [],
        [
            detection(A, None, score=0.2), detection(A, None, score=0.4, category=2), detection(None, A, score=0.3),
            detection(A, None, score=0.1, video=2),
        ],
    )  # fmt: skip
    assert [(each.video_id, each.score) for each in distinct_tracks(found)] == [(1, 0.4), (1, 0.3), (2, 0.1)]


def test_as_many_as_objects_are_kept_in_each_video() -> None:
    objects = [labelled(A, A), labelled(B, B), labelled(C, C, crowd=True), labelled(A, A, video=2)]
    found = [
        *(detection(A, mask, score=score) for mask, score in ((A, 0.5), (B, 0.9), (C, 0.7))),
        detection(A, B, score=0.8, category=2),  # the very same masks as the second
        detection(A, A, score=0.01, video=2), detection(B, B, score=0.99, video=3),
    ]  # fmt: skip
    truth, results = read(objects, found)
    kept = best_tracks(truth, results)
    assert [(each.video_id, each.score) for each in kept] == [(1, 0.9), (1, 0.7), (2, 0.01)], "no object, no track"
    assert best_tracks(truth, []) == []
