"""Tracking measures at every score threshold: against sets that are cut by hand, and levels set on other videos."""

from __future__ import annotations

import numpy as np
import pytest
from random_sets import random_set, to_json
from tracking_sets import detection, labelled, read, strip

from vislab.errors import UserError
from vislab.metrics.best_tracks import distinct_tracks
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.mot import MotCounts, mot_instances
from vislab.metrics.score_levels import ScoreLevels, most_tracks, score_levels, tracks_per_object

A, B, C = strip(0, 4), strip(10, 14), strip(16, 20)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_levels_are_the_measures_of_the_best_tracks(seed: int) -> None:
    truth, found = to_json(random_set(seed))
    labels = read_ground_truth(truth)
    detections = read_results(found, labels)
    most = most_tracks(labels, detections)
    ratios = (0.5 * most, most)
    levels = score_levels(labels, detections, ratios, "mask")
    ranked = [each for each in distinct_tracks(detections) if each.mask_areas.any()]
    for ratio, counts in zip(ratios, levels.counts, strict=True):
        objects = sum(not own.is_crowd and own.mask_areas.any() for own in labels.instances)
        last = ranked[max(1, round(ratio * objects)) - 1].score
        kept = [each for each in ranked if each.score >= last]
        expected = mot_instances(labels, kept, overlap="mask", score_threshold=-1.0)
        assert counts.summaries()["IDF1"] == expected.summaries()["IDF1"]
        assert counts.detections.tolist() == expected.detections.tolist()
    assert levels.counts[0].detections.sum() < levels.counts[1].detections.sum() > 0


def test_a_query_under_several_categories_is_one_track() -> None:
    truth, found = read(
        [labelled(A, A), labelled(B, B)],
        [detection(A, A, category=1, score=0.2), detection(A, A, category=2, score=0.9), detection(B, B, score=0.3)],
    )
    assert tracks_per_object(truth, found) == 1.5 and most_tracks(truth, found) == 1.0
    (half, whole) = score_levels(truth, found, (0.5, 1.0)).counts
    assert half.detections.tolist() == [2] and half.identity_matches.tolist() == [2]
    assert whole.summaries()["IDF1"] == 1.0


def test_tracks_of_equal_score_count_together_and_one_counts_at_least() -> None:
    truth, found = read(
        [labelled(A), labelled(B), labelled(C)], [detection(A, score=0.5), detection(B, score=0.5), detection(C)]
    )
    levels = score_levels(truth, found, (0.01, 2 / 3, 1.0))
    assert [int(counts.detections.sum()) for counts in levels.counts] == [1, 3, 3]


def test_what_has_no_mask_is_neither_track_nor_object() -> None:
    truth, found = read(
        [labelled(A), labelled(None, None), labelled(B, crowd=True)],
        [detection(None, score=1.0), detection(A, score=0.5)],
    )
    assert tracks_per_object(truth, found) == most_tracks(truth, found) == 1.0
    assert score_levels(truth, found, (1.0,)).counts[0].matches.tolist() == [1]


def test_no_objects() -> None:
    truth, found = read([labelled(B, crowd=True)], [detection(A)])
    with pytest.raises(UserError, match="no labelled objects"):
        most_tracks(truth, found)


def counts_of(identity: list[int], detections: list[int]) -> MotCounts:
    """Videos with 10 objects each; everything but IDF1 is zero."""
    columns = dict.fromkeys(
        ("matches", "switches", "fragments", "mostly_tracked", "partly_tracked", "mostly_lost", "iou_sums"),
        np.zeros(len(identity), np.int64),
    )
    return MotCounts(
        np.arange(len(identity)),
        objects=np.full(len(identity), 10),
        detections=np.array(detections),
        identity_matches=np.array(identity),
        **columns,
    )


def test_each_half_has_the_level_that_is_best_for_the_other() -> None:
    few = counts_of([1, 9, 1, 9], [10, 10, 10, 10])  # good for videos 1 and 3
    many = counts_of([8, 2, 8, 2], [20, 20, 20, 20])  # good for videos 0 and 2
    found = ScoreLevels((1.0, 2.0), (few, many)).best_on_others()
    assert found.identity_matches.tolist() == [1, 2, 1, 2], "each at what the others like"
    assert found.detections.tolist() == [10, 20, 10, 20]
    assert found.video_ids.tolist() == [0, 1, 2, 3]


def test_of_equal_levels_the_one_of_fewest_tracks() -> None:
    same = [counts_of([5, 5, 5], [10, 10, 10]) for _ in range(2)]
    other = counts_of([5, 5, 5], [11, 11, 11])
    assert ScoreLevels((1.0, 2.0, 3.0), (*same, other)).best_on_others().detections.tolist() == [10, 10, 10]
    nothing = counts_of([0, 0], [0, 0])
    undefined = MotCounts(**(vars(nothing) | {"objects": np.zeros(2, np.int64)}))
    assert ScoreLevels((1.0,), (undefined,)).best_on_others().detections.tolist() == [0, 0]


def test_one_video_has_no_others() -> None:
    with pytest.raises(UserError, match="expected 2 videos or more, found 1"):
        ScoreLevels((1.0,), (counts_of([5], [10]),)).best_on_others()
