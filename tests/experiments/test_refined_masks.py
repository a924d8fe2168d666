"""Which objects refinement changes most, from made-up results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refined_masks import Refined, most_changed, refined_objects, summary

from vislab import rle
from vislab.metrics.inputs import GroundTruth, Instance, read_ground_truth, read_results

LENGTH = 12
LOST = (4, 5)


def block(left: int, width: int = 10) -> np.ndarray:
    mask = np.zeros((20, 40), bool)
    mask[5:15, left : left + width] = True
    return mask


def track(left: int, without: tuple[int, ...] = (), narrow: tuple[int, ...] = ()) -> list[Any]:
    masks = [block(left, 5 if t in narrow else 10) for t in range(LENGTH)]
    return [None if t in without else rle.encode(mask) for t, mask in enumerate(masks)]


def labels(*videos: list[list[Any]]) -> GroundTruth:
    annotations = [
        {
            "id": 10 * number + n + 1, "video_id": number, "category_id": 1 + n % 2, "iscrowd": 0,
            "segmentations": masks, "areas": [None if mask is None else 100 for mask in masks],
        }
        for number, tracks in enumerate(videos, start=1)
        for n, masks in enumerate(tracks)
    ]  # fmt: skip
    size = {"height": 20, "width": 40, "length": LENGTH}
    return read_ground_truth(
        {
            "videos": [{"id": number, **size} for number in range(1, len(videos) + 1)],
            "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "star"}],
            "annotations": annotations,
        }
    )


def results(truth: GroundTruth, *found: tuple[int, list[Any], float]) -> list[Instance]:
    return read_results(
        [{"video_id": v, "category_id": 1, "score": s, "segmentations": masks} for v, masks, s in found], truth
    )


def test_quality_is_the_iou_with_the_label() -> None:
    truth = labels([track(2, without=(11,)), track(25)])
    before = results(truth, (1, track(2, without=LOST, narrow=(7,)), 0.5), (1, track(26), 0.9))
    after = results(truth, (1, track(2, narrow=(7, 8)), 0.5), (1, track(26), 0.9))
    disc, star = refined_objects(truth, before, after, 1)
    assert (disc.name, star.name) == ("disc", "star") and disc.truth is truth.instances[0]
    assert disc.before is before[0] and star.after is after[1]
    expected = np.ones((2, LENGTH))
    expected[0, [*LOST]], expected[0, 7], expected[1, [7, 8]], expected[:, 11] = 0, 0.5, 0.5, np.nan
    np.testing.assert_allclose(disc.quality, expected)
    np.testing.assert_allclose(disc.gain[[4, 5, 7, 8, 11]], [1, 1, 0, -0.5, 0])
    np.testing.assert_allclose(star.quality, 9 / 11)


def test_an_object_that_nothing_overlaps_has_no_mask() -> None:
    truth = labels([track(2)])
    elsewhere = results(truth, (1, track(25), 0.9))
    for found in ([], elsewhere):
        (shown,) = refined_objects(truth, found, results(truth, (1, track(2), 0.1)), 1)
        assert shown.before is None and shown.after is not None
        np.testing.assert_array_equal(shown.quality, [[0] * LENGTH, [1] * LENGTH])


def test_only_the_ten_best_tracks_count() -> None:
    """One under several categories is one track."""
    truth = labels([track(2)])
    for tracks, counts in (([track(25, without=(n,)) for n in range(10)], False), ([track(25)] * 10, True)):
        found = [(1, masks, 0.9 - n / 100) for n, masks in enumerate(tracks)]
        (shown,) = refined_objects(truth, results(truth, *found, (1, track(2), 0.1)), results(truth), 1)
        assert (shown.before is not None) is counts


def test_without_labels_masks_that_appear_are_gains() -> None:
    truth = labels([])
    before = results(truth, (1, track(25), 0.9), (1, track(2, without=LOST), 0.5))
    after = results(truth, (1, track(3, without=(9,)), 0.6), (1, track(25), 0.9), (1, track(2), 0.5))
    twice = results(truth, (1, track(3, without=(9,)), 0.6), (1, track(3, without=(9,)), 0.59), (1, track(25), 0.9))
    for refined in (after, twice):
        pairs = {found.after.score: found for found in refined_objects(truth, before, refined, 1) if found.after}
        assert not pairs[0.9].gain.any() and pairs[0.9].truth is None and len(pairs) == 2
    np.testing.assert_array_equal(np.flatnonzero(pairs[0.6].gain), [4, 5, 9])
    assert pairs[0.6].gain[[4, 5, 9]].tolist() == [1, 1, -1]
    assert refined_objects(truth, [], after, 1) == refined_objects(truth, before, [], 1) == []


def shown(video_id: int, gain: list[float]) -> Refined:
    before = np.full(LENGTH, 0.5)
    return Refined(video_id, f"object {video_id}", None, None, np.stack([before, before + np.array(gain)]))


def test_stretches_of_the_largest_gain_one_of_each_video_first() -> None:
    one = shown(1, [0, 0, 0, 0.3, 0.4, 0, 0, 0, 0, 0, 0, -0.5])
    two = shown(1, [0.5] + [0] * 11)
    three = shown(2, [0] * 10 + [0.1, 0.1])
    nothing = shown(3, [0] * 12)
    found = most_changed([three, two, one, nothing], 4)
    assert [(s.shown, round(s.gain, 3)) for s in found] == [(one, 0.7), (three, 0.2), (two, 0.5)]
    assert found[0].frames == range(2, 6), "of equal ones the middle"
    assert found[1].frames == range(8, 12) and found[1].place == "object 2, frames 8 to 11"
    assert found[0].quality() == pytest.approx((0.5, 0.675))
    (worst,) = most_changed([three, two, one, nothing], 4, -1)
    assert worst.shown is one and worst.frames == range(8, 12) and worst.gain == pytest.approx(-0.5)
    assert most_changed([nothing], 12) == []


def test_what_was_never_there_is_not_lost() -> None:
    """The greatest gain is where nothing was found without refinement; the stretch shown touches where there was."""
    quality = np.zeros((2, LENGTH))
    quality[1], quality[0, 0] = 1, 1
    late = Refined(1, "late", None, None, quality)
    assert [stretch.frames for stretch in most_changed([late], 4)] == [range(4)]
    never = Refined(2, "never", None, None, np.stack([np.zeros(LENGTH), np.ones(LENGTH)]))
    assert most_changed([never], 4) == [] and most_changed([never], 4, -1) == []


def test_the_summary_tells_losses_too() -> None:
    truth = labels([track(2, without=(11,))], [track(25)])
    before = results(truth, (1, track(2, without=LOST), 0.5), (2, track(25), 0.9))
    after = results(truth, (1, track(2), 0.5), (2, track(25, without=(0,), narrow=(1,)), 0.9))
    objects = [found for video in (1, 2) for found in refined_objects(truth, before, after, video)]
    lines = summary(objects, {1: "bear", 2: "duck"}, 4, 10)
    assert lines == [
        "2 objects of 2 videos, 23 frames: mask IoU 0.913 without refinement, 0.935 with a window of 10",
        "masks lost without and found with it: 2, 0 of them in another track without it",
        "masks found without and lost with it: 1, 0 of them in another track with it",
        "largest gains:",
        "  video bear, disc, frames 3 to 6: 0.50 to 1.00",
        "largest losses:",
        "  video duck, disc, frames 0 to 3: 1.00 to 0.62",
    ]
    assert summary(objects[1:], {2: "duck"}, 4, 10)[4] == "  none"


def test_the_summary_tells_broken_tracks_from_objects_that_are_not_found() -> None:
    """One of the two lost masks is in another track, which refinement joins to the object's."""
    truth = labels([track(2)])
    rest = tuple(t for t in range(LENGTH) if t != LOST[0])
    before = results(truth, (1, track(2, without=LOST), 0.5), (1, track(2, without=rest), 0.4))
    (shown,) = refined_objects(truth, before, results(truth, (1, track(2), 0.5)), 1)
    assert shown.quality[0, list(LOST)].tolist() == [0, 0]
    assert shown.in_any_track is not None and shown.in_any_track[0, list(LOST)].tolist() == [1, 0]
    assert summary([shown], {1: "bear"}, 4, 10)[1:3] == [
        "masks lost without and found with it: 2, 1 of them in another track without it",
        "masks found without and lost with it: 0, 0 of them in another track with it",
    ]
