"""Clip tracking against its plain definition, and what it does to identities, masks and classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clips import AS_THEY_ARE, SIZE, by_track
from plain_tracker import plain_tracking

from vislab.errors import UserError
from vislab.rle import decode
from vislab.stitching import (
    ClipInferenceConfig,
    ClipInstances,
    ClipTracker,
    ClipTrackingConfig,
    TrackedFrame,
    VideoTracks,
    clip_windows,
)

LENGTHS = [
    (1, 2, 1), (2, 3, 2), (5, 12, 3), (12, 12, 11), (13, 12, 11), (13, 5, 1), (21, 6, 4), (17, 7, 3), (30, 2, 1),
]  # fmt: skip
SIDE = 32


def random_instances(seed: int, num_frames: int, clip_length: int, clip_stride: int) -> list[ClipInstances]:
    """Every clip of a video with 0 to 4 instances; some are noisy views of one of three objects, some of nothing."""
    rng = np.random.default_rng(seed)
    objects = rng.normal(0, 2, (3, num_frames, *SIZE))
    clips = []
    for window in clip_windows(num_frames, clip_length, clip_stride):
        count = int(rng.integers(0, 5))
        shape = (count, window.length, *SIZE)
        seen = objects[rng.integers(0, 3, count), window.first : window.first + window.length]
        logits = np.where(rng.random((count, 1, 1, 1)) < 0.7, seen, 0) + rng.normal(0, 2, shape) - rng.integers(0, 4)
        scores = rng.random((count, 3), dtype=np.float32)
        clips.append(ClipInstances(window.first, scores, torch.from_numpy(logits.astype(np.float32))))
    return clips


def tracked(clips: list[ClipInstances], min_iou: float = 0.05) -> list[TrackedFrame]:
    tracker = ClipTracker(ClipTrackingConfig(min_iou), AS_THEY_ARE)
    return [frame for clip in clips for frame in tracker.push(clip)] + tracker.flush()


def mask_of(segmentation: dict | None, size: tuple[int, int]) -> np.ndarray:
    return np.zeros(size, bool) if segmentation is None else decode(segmentation, *size)


@pytest.mark.parametrize(("num_frames", "clip_length", "clip_stride"), LENGTHS)
@pytest.mark.parametrize("min_iou", [0.0, 0.05, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_plain_definition(
    seed: int, min_iou: float, num_frames: int, clip_length: int, clip_stride: int
) -> None:
    clips = random_instances(seed, num_frames, clip_length, clip_stride)
    frames = tracked(clips, min_iou)
    assert [frame.frame for frame in frames] == list(range(num_frames))
    expected = plain_tracking(clips, min_iou)
    found = {cell.track_id for frame in frames for cell in frame.instances}
    assert found == set(range(len(expected)))
    for frame in frames:
        cells = {cell.track_id: cell for cell in frame.instances}
        for key, (_, masks, seen) in enumerate(expected):
            assert (key in cells) == seen[frame.frame]
            if key in cells:
                assert np.array_equal(mask_of(cells[key].segmentation, SIZE), masks[frame.frame])


@pytest.mark.parametrize("top_k", [1, 4, 1000])
@pytest.mark.parametrize(("num_frames", "clip_length", "clip_stride"), LENGTHS)
def test_the_instances_are_the_best_pairs_of_track_and_class(
    num_frames: int, clip_length: int, clip_stride: int, top_k: int
) -> None:
    clips = random_instances(7, num_frames, clip_length, clip_stride)
    tracks = VideoTracks()
    tracks.add(tracked(clips))
    expected = plain_tracking(clips, 0.05)
    pairs = [(scores[label], label, masks) for scores, masks, _ in expected for label in range(3)]
    pairs = sorted((pair for pair in pairs if pair[0] > 0.4), key=lambda pair: -pair[0])[:top_k]
    pairs = [pair for pair in pairs if pair[2].any()]
    found = tracks.instances(ClipTrackingConfig(), top_k=top_k, score_threshold=0.4)
    assert [instance.score for instance in found] == pytest.approx([score for score, _, _ in pairs], rel=1e-6)
    assert [instance.label for instance in found] == [label for _, label, _ in pairs]
    for instance, (_, _, masks) in zip(found, pairs, strict=True):
        assert np.array_equal(np.stack([mask_of(code, SIZE) for code in instance.segmentations]), masks)


def square(left: int) -> torch.Tensor:
    """(4, SIDE) mask logits of a mask 8 pixels wide that begins at `left`."""
    logits = torch.full((4, SIDE), -9.0)
    logits[:, left : left + 8] = 9.0
    return logits


def clip_of(first: int, paths: list[list[int]], scores: list[list[float]]) -> ClipInstances:
    """paths: the left edge of each instance's mask in each frame. scores: of each class."""
    masks = torch.stack([torch.stack([square(left) for left in path]) for path in paths])
    return ClipInstances(first, np.array(scores, np.float32), masks)


def test_known_identities_are_kept() -> None:
    """Three objects pass each other, their queries in another order in every clip."""
    paths = np.stack([np.arange(24), np.arange(24)[::-1], np.full(24, 12)])
    rng = np.random.default_rng(0)
    clips = []
    for window in clip_windows(24, 5, 1):
        order = rng.permutation(3)
        part = paths[order, window.first : window.first + 5]
        clips.append(clip_of(window.first, part.tolist(), np.eye(3)[order].tolist()))
    tracks = VideoTracks()
    tracks.add(tracked(clips))
    found = tracks.instances(ClipTrackingConfig(), top_k=10, score_threshold=0.5)
    assert sorted(instance.label for instance in found) == [0, 1, 2] and {i.score for i in found} == {1.0}
    for instance in found:
        masks = [mask_of(code, (4, SIDE)) for code in instance.segmentations]
        assert [int(np.flatnonzero(mask.any(0))[0]) for mask in masks] == paths[instance.label].tolist()


def test_a_query_under_two_classes_is_one_instance() -> None:
    clips = [clip_of(first, [[3, 3]], [[0.75, 0.5]]) for first in range(4)]
    frames = tracked(clips)
    assert [[cell.track_id for cell in frame.instances] for frame in frames] == [[0]] * 5
    assert {(cell.label, cell.score) for frame in frames for cell in frame.instances} == {(0, 0.75)}
    tracks = VideoTracks()
    tracks.add(frames)
    found = tracks.instances(ClipTrackingConfig(), top_k=10)
    assert [(instance.label, instance.score) for instance in found] == [(0, 0.75), (1, 0.5)]
    assert found[0].segmentations == found[1].segmentations


def test_a_mask_is_the_mean_of_logits_not_the_more_certain_clip() -> None:
    """Two clips that doubt outweigh one that does not, although its score is higher."""
    clips = [clip_of(first, [[3, 3, 3]], [[0.25]]) for first in range(3)]
    clips[2].mask_logits[0, 0, :, 3] = -25.0  # frame 2: 9 + 9 - 25 is below 0
    clips[1].mask_logits[0, 2, :, 4] = -4.0  # frame 3: -4 + 9 is above 0
    clips[1].class_scores[:] = 1.0
    track = by_track(tracked(clips))[0]
    masks = [decode({"size": [4, SIDE], "counts": track[frame][2]}, 4, SIDE)[0] for frame in range(5)]
    assert [np.flatnonzero(mask).tolist() for mask in masks] == [
        list(range(4 if frame == 2 else 3, 11)) for frame in range(5)
    ]
    assert track[4][1] == pytest.approx((0.25 + 1.0 + 0.25) / 3)


def test_a_track_is_found_again_by_the_clip_before_the_last() -> None:
    clips = [clip_of(0, [[0] * 4], [[0.9]]), clip_of(1, [[20] * 4], [[0.9]]), clip_of(2, [[0] * 4], [[0.9]])]
    seen = {key: sorted(track) for key, track in by_track(tracked(clips)).items()}
    assert seen == {0: [0, 1, 2, 3, 4, 5], 1: [1, 2, 3, 4]}


def test_what_is_alike_too_little_starts_a_track() -> None:
    clips = [clip_of(0, [[0, 0]], [[0.9]]), clip_of(1, [[6, 6]], [[0.9]])]  # IoU 2 / 14
    assert len(by_track(tracked(clips, 0.1))) == 1
    assert len(by_track(tracked(clips, 0.2))) == 2


def test_frames_are_given_early_and_only_what_is_not_finished_is_held() -> None:
    tracker = ClipTracker(ClipTrackingConfig(), AS_THEY_ARE)
    clips = random_instances(3, 60, 5, 2)
    for clip in clips:
        given = [frame.frame for frame in tracker.push(clip)]
        assert given == list(range(max(0, clip.first - (1 if clip.first == 55 else 2)), clip.first))
        assert all(earlier.end > clip.first for earlier in tracker._earlier) and len(tracker._earlier) <= 3
        held = {frame for track in tracker._tracks.values() for frame in track.logit_sums}
        assert held <= set(range(clip.first, clip.end)) and all(t.logit_sums for t in tracker._tracks.values())
    assert [frame.frame for frame in tracker.flush()] == [55, 56, 57, 58, 59]
    assert tracker.flush() == [] and not tracker._tracks and not tracker._earlier


def test_clips_without_instances() -> None:
    nothing = ClipInstances(0, np.zeros((0, 3), np.float32), torch.zeros(0, 4, *SIZE))
    frames = tracked([nothing, ClipInstances(1, nothing.class_scores, nothing.mask_logits)])
    assert frames == [TrackedFrame(frame, ()) for frame in range(5)]
    tracks = VideoTracks()
    tracks.add(frames)
    assert tracks.instances(ClipTrackingConfig(), top_k=10) == []


def test_what_is_no_number_is_outside_and_scores_nothing() -> None:
    clip = clip_of(0, [[3, 3]], [[float("nan"), 0.5]])
    clip.mask_logits[0, 0, 0] = float("nan")
    clip.mask_logits[0, 1] = float("inf")
    first, second = tracked([clip])
    assert first.instances[0].label == 1 and first.instances[0].score == 0.5
    assert mask_of(first.instances[0].segmentation, (4, SIDE)).sum() == 3 * 8
    assert mask_of(second.instances[0].segmentation, (4, SIDE)).all()


def test_half_precision_is_averaged_in_single() -> None:
    clips = random_instances(1, 9, 4, 1)
    halves = [ClipInstances(c.first, c.class_scores, c.mask_logits.half()) for c in clips]
    as_single = [ClipInstances(c.first, c.class_scores, c.mask_logits.float()) for c in halves]
    assert tracked(halves) == tracked(as_single)


def test_a_clip_that_leaves_a_gap_or_comes_out_of_order_is_no_input() -> None:
    first, second, third = (clip_of(start, [[0, 0]], [[0.9]]) for start in (0, 1, 3))
    tracker = ClipTracker(ClipTrackingConfig(), AS_THEY_ARE)
    with pytest.raises(AssertionError):
        tracker.push(second)
    tracker.push(first)
    for wrong in (first, third):
        with pytest.raises(AssertionError):
            tracker.push(wrong)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"evaluation.clips.stitching.min_iou is 1.0, expected an IoU in \[0, 1\)"):
        ClipTrackingConfig(1.0)
    with pytest.raises(UserError, match="evaluation.clips.clip_stride is 4, expected less than clip_length"):
        ClipInferenceConfig(4, 4, ClipTrackingConfig())
