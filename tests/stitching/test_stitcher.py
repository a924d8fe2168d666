"""Stitching against its plain definition, and what it does to identities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from clips import AS_THEY_ARE, SIZE, by_track, partition, permuted, random_clips, stitched
from plain_stitcher import plain_stitching

import vislab
from vislab.rle import area, decode, encode
from vislab.stitching import ClipDetections, ClipInferenceConfig, ClipStitcher, StitchingConfig, VideoTracks

BIRTHS = ("paper", "none", "per_class")
LENGTHS = [
    (1, 1, 1), (2, 1, 1), (5, 12, 3), (12, 12, 12), (13, 12, 12), (13, 12, 1), (40, 6, 4), (41, 6, 6), (200, 3, 2),
]  # fmt: skip


def random_config(rng: np.random.Generator, clip_length: int, clip_stride: int) -> ClipInferenceConfig:
    weights = {f"{cue}_weight": float(rng.uniform(0.1, 2)) for cue in ("mask", "class", "score", "centre", "box")}
    options = {
        "mask_cue": ("soft_volume", "binary_frame_mean"), "cue_frames": ("stride", "shared"), "birth": BIRTHS,
        "max_cost": (None, 0.0, -0.8),
    }  # fmt: skip
    chosen = {name: values[rng.integers(len(values))] for name, values in options.items()}
    return ClipInferenceConfig(clip_length, clip_stride, StitchingConfig(**weights, **chosen))


@pytest.mark.parametrize(("num_frames", "clip_length", "clip_stride"), LENGTHS)
@pytest.mark.parametrize("birth", BIRTHS)
def test_equals_the_plain_definition(birth: str, num_frames: int, clip_length: int, clip_stride: int) -> None:
    config = ClipInferenceConfig(clip_length, clip_stride, StitchingConfig(birth=birth))  # type: ignore[arg-type]
    clips = random_clips(num_frames, num_frames, config)
    assert partition(stitched(clips, config)) == plain_stitching(clips, config)


@pytest.mark.parametrize("seed", range(150))
def test_equals_the_plain_definition_whatever_the_options(seed: int) -> None:
    rng = np.random.default_rng([1, seed])
    clip_length = int(rng.integers(1, 13))
    config = random_config(rng, clip_length, int(rng.integers(1, clip_length + 1)))
    num_frames = int(rng.integers(1, 201)) if seed % 5 == 0 else int(rng.integers(1, 40))
    clips = random_clips(seed, num_frames, config)
    found = stitched(clips, config)
    assert [frame.frame for frame in found] == list(range(num_frames))
    assert partition(found) == plain_stitching(clips, config)


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_detections_and_masks_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = random_config(rng, 5, 2)
    clips = random_clips(seed, 25, config)
    others = [permuted(c, rng.permutation(len(c.labels)), rng.permutation(len(c.mask_logits))) for c in clips]
    assert stitched(others, config) == stitched(clips, config)


def test_a_frame_is_given_as_soon_as_the_next_clip_begins_after_it() -> None:
    config = ClipInferenceConfig(6, 4)
    stitcher = ClipStitcher(config, AS_THEY_ARE)
    clips = random_clips(0, 11, config)
    assert [clip.first for clip in clips] == [0, 4, 5]
    given = [[frame.frame for frame in stitcher.push(clip)] for clip in clips]
    assert given == [[], [0, 1, 2, 3], [4]]
    assert [frame.frame for frame in stitcher.flush()] == [5, 6, 7, 8, 9, 10]
    assert stitcher.flush() == []


def test_a_clip_that_leaves_a_gap_or_comes_out_of_order_is_no_input() -> None:
    config = ClipInferenceConfig(4, 4)
    first, second, third = random_clips(0, 12, config)
    stitcher = ClipStitcher(config, AS_THEY_ARE)
    with pytest.raises(AssertionError):
        stitcher.push(second)
    stitcher.push(first)
    for wrong in (first, third):
        with pytest.raises(AssertionError):
            stitcher.push(wrong)


def square(left: int | None) -> torch.Tensor:
    """(4, 32) mask logits of a mask 8 pixels wide that begins at `left`; None: of nothing."""
    logits = torch.full((4, 32), -9.0)
    if left is not None:
        logits[:, left : left + 8] = 9.0
    return logits


def clip_of(first: int, instances: list[tuple[int, float, list[int | None]]]) -> ClipDetections:
    """instances: label, score, and the left edge of the mask in each frame, None where nothing is seen of it."""
    length = len(instances[0][2])
    return ClipDetections(
        first,
        np.array([label for label, _, _ in instances]),
        np.array([[score] * length for _, score, _ in instances], np.float32),
        np.zeros((len(instances), length, 4), np.float32),
        np.arange(len(instances)),
        torch.stack([torch.stack([square(left) for left in lefts]) for _, _, lefts in instances]),
    )


def places(config: ClipInferenceConfig, clips: list[ClipDetections], last: int) -> list[tuple[int, int, int]]:
    """For each track its category in the first frame, and the left edge of its mask in the first and the last frame."""
    tracks = by_track(stitched(clips, config)).values()

    def left(cell: tuple) -> int:
        return int(np.flatnonzero(decode({"size": [4, 32], "counts": cell[2]}, 4, 32).any(0))[0])

    return sorted((track[0][0], left(track[0]), left(track[last])) for track in tracks)


# Object 0 goes from left to right, object 1 from right to left; frames 4 and 5 are in both clips of T = 6, S = 4.
RIGHT, LEFT = [0, 2, 4, 6], [24, 22, 20, 18]
ON_TO_THE_RIGHT, ON_TO_THE_LEFT = [18, 20, 22, 24], [6, 4, 2, 0]


def crossing(middle: list[list[int | None]], labels: tuple[int, int], scores: list[tuple[float, float]]) -> list:
    """middle: where the two are seen in the shared frames, by the first clip (object 0, object 1) and the second."""
    return [
        clip_of(0, [(labels[0], scores[0][0], RIGHT + middle[0]), (labels[1], scores[0][1], LEFT + middle[1])]),
        clip_of(4, [(labels[0], scores[1][0], middle[2] + ON_TO_THE_RIGHT),
                    (labels[1], scores[1][1], middle[3] + ON_TO_THE_LEFT)]),
    ]  # fmt: skip


BOTH_HIDDEN: list[list[int | None]] = [[None, None]] * 4
EACH_TAKEN_FOR_THE_OTHER: list[list[int | None]] = [[10, 12], [13, 12], [13, 12], [10, 12]]
TRUE, SWAPPED = [(0, 24), (24, 0)], [(0, 0), (24, 24)]


@pytest.mark.parametrize("middle", [BOTH_HIDDEN, EACH_TAKEN_FOR_THE_OTHER])
def test_a_crossing_that_mask_iou_loses_is_decided_by_the_category(middle: list) -> None:
    """DeVIS Table 5 on a constructed scene: objects of two categories hide each other in all shared frames."""
    clips = crossing(middle, (0, 1), [(0.9, 0.8), (0.8, 0.9)])
    mask_only = ClipInferenceConfig(stitching=StitchingConfig(class_weight=0, score_weight=0))
    assert [edges for _, *edges in places(mask_only, clips, 9)] == [list(pair) for pair in SWAPPED]
    assert places(ClipInferenceConfig(), clips, 9) == [(0, *TRUE[0]), (1, *TRUE[1])]
    with_class = replace(mask_only, stitching=replace(mask_only.stitching, class_weight=1.0))
    assert places(with_class, clips, 9) == [(0, *TRUE[0]), (1, *TRUE[1])]


def test_a_crossing_of_look_alikes_is_decided_by_the_score() -> None:
    clips = crossing(EACH_TAKEN_FOR_THE_OTHER, (2, 2), [(0.95, 0.35), (0.9, 0.3)])
    mask_only = ClipInferenceConfig(stitching=StitchingConfig(class_weight=0, score_weight=0))
    assert [edges for _, *edges in places(mask_only, clips, 9)] == [list(pair) for pair in SWAPPED]
    assert [edges for _, *edges in places(ClipInferenceConfig(), clips, 9)] == [list(pair) for pair in TRUE]


def scored(config: ClipInferenceConfig, clips: list[ClipDetections]) -> dict[str, float]:
    """AP, IDF1 and switches of the crossing, whose true masks are where the objects are seen."""
    tracks = VideoTracks()
    tracks.add(stitched(clips, config))
    paths = [RIGHT + [None, None] + ON_TO_THE_RIGHT, LEFT + [None, None] + ON_TO_THE_LEFT]
    codes = [[None if left is None else encode((square(left) > 0).numpy()) for left in path] for path in paths]
    common = {"video_id": 1, "iscrowd": 0}
    truth = {
        "videos": [{"id": 1, "name": "crossing", "height": 4, "width": 32, "length": 10}],
        "categories": [{"id": 1, "name": "fox"}, {"id": 2, "name": "hen"}],
        "annotations": [
            {**common, "id": i + 1, "category_id": i + 1, "segmentations": codes[i],
             "areas": [code and area(code) for code in codes[i]]} for i in (0, 1)
        ],
    }  # fmt: skip
    found = [
        {"video_id": 1, "category_id": i.label + 1, "score": i.score, "segmentations": i.segmentations}
        for i in tracks.instances(config.stitching, top_k=10)
    ]
    table = vislab.evaluate(truth, found, metrics=("ap", "mot"))
    table = table[table["scope"] == "all"].set_index("metric")["value"]
    return {name: float(table[name]) for name in ("AP", "IDF1", "IDs")}


def test_what_the_crossing_is_worth() -> None:
    clips = crossing(BOTH_HIDDEN, (0, 1), [(0.9, 0.8), (0.8, 0.9)])
    mask_only = ClipInferenceConfig(stitching=StitchingConfig(class_weight=0, score_weight=0))
    assert scored(ClipInferenceConfig(), clips) == {"AP": pytest.approx(1.0, abs=1e-12), "IDF1": 1.0, "IDs": 0}
    lost = scored(mask_only, clips)
    assert lost["AP"] < 0.5 and lost["IDF1"] == 0.5 and lost["IDs"] == 2


def newcomer() -> list[ClipDetections]:
    """Object 0 stays; object 1, of the same category, is there in the second clip only, after the shared frames."""
    first = clip_of(0, [(0, 0.9, [0] * 6)])
    second = clip_of(4, [(0, 0.9, [0] * 6), (0, 0.7, [None, None, 20, 20, 20, 20])])
    return [first, second]


@pytest.mark.parametrize(("birth", "lengths"), [("paper", [10, 6]), ("per_class", [10, 6]), ("none", [10])])
def test_an_unmatched_instance_starts_a_track_if_births_are_allowed(birth: str, lengths: list[int]) -> None:
    config = ClipInferenceConfig(stitching=StitchingConfig(birth=birth))  # type: ignore[arg-type]
    tracks = by_track(stitched(newcomer(), config))
    assert [len(track) for track in tracks.values()] == lengths
    assert min(tracks[0]) == 0 and all(min(track) == 4 for key, track in tracks.items() if key)


def exchange(absent: float) -> list[ClipDetections]:
    """One object leaves before the shared frames, another of its category comes after them; `absent`: their score
    in frames in which they are not."""
    first = clip_of(0, [(0, 0.9, [0, 0, 0, None, None, None])])
    second = clip_of(4, [(0, 0.9, [None, None, None, 20, 20, 20])])
    first.scores[0, 3:] = second.scores[0, :3] = absent
    return [first, second]


def test_who_is_absent_from_the_shared_frames_is_not_taken_for_another() -> None:
    """Unless births are as in the release, where low scores take part in the assignment all the same."""
    tracks = by_track(stitched(exchange(1e-4), ClipInferenceConfig()))
    assert [sorted(track) for track in tracks.values()] == [[0, 1, 2], [7, 8, 9]]
    released = ClipInferenceConfig(stitching=StitchingConfig(birth="none"))
    assert [sorted(track) for track in by_track(stitched(exchange(1e-4), released)).values()] == [[0, 1, 2, 7, 8, 9]]
    assert len(by_track(stitched(exchange(0.01), ClipInferenceConfig()))) == 1


def test_a_bound_on_the_cost_keeps_strangers_apart() -> None:
    """For models whose score says nothing about frames, absence shows in the cues only: no overlap, other category."""
    clips = exchange(0.9)
    clips[1].labels[:] = 1
    bounded = ClipInferenceConfig(stitching=StitchingConfig(max_cost=-0.05))
    assert len(by_track(stitched(clips, ClipInferenceConfig()))) == 1
    assert len(by_track(stitched(clips, bounded))) == 2


def test_per_class_matches_within_the_category_and_ends_what_finds_nothing() -> None:
    """With S = 1 of T = 4 an unmatched track would still share frames with the next clip but one."""
    config = ClipInferenceConfig(4, 1, StitchingConfig(birth="per_class"))
    clips = [clip_of(0, [(0, 0.9, [0] * 4)]), clip_of(1, [(1, 0.9, [0] * 4)]), clip_of(2, [(0, 0.9, [0] * 4)])]
    tracks = by_track(stitched(clips, config))
    assert [(track[min(track)][0], sorted(track)) for track in tracks.values()] == [
        (0, [0, 1, 2, 3]), (1, [1, 2, 3, 4]), (0, [2, 3, 4, 5]),
    ]  # fmt: skip
    paper = replace(config, stitching=StitchingConfig())
    assert [sorted(track) for track in by_track(stitched(clips, paper)).values()] == [[0, 1, 2, 3, 4, 5]]


def test_the_higher_score_wins_each_shared_frame_and_the_earlier_clip_a_tie() -> None:
    first, second = clip_of(0, [(0, 0.5, [0] * 6)]), clip_of(4, [(0, 0.5, [2] * 6)])
    second.scores[0, 1] = 0.75
    (track,) = by_track(stitched([first, second], ClipInferenceConfig())).values()
    masks = [decode({"size": [4, 32], "counts": track[frame][2]}, 4, 32) for frame in range(10)]
    assert [int(np.flatnonzero(mask.any(0))[0]) for mask in masks] == [0] * 5 + [2] * 5
    assert [track[frame][1] for frame in (4, 5, 6)] == [0.5, 0.75, 0.5]


def test_without_shared_frames_the_frames_at_the_seam_are_compared() -> None:
    config = ClipInferenceConfig(3, 3)
    first = clip_of(0, [(0, 0.9, [0, 1, 2]), (0, 0.8, [24, 23, 22])])
    second = clip_of(3, [(0, 0.8, [3, 4, 5]), (0, 0.9, [21, 20, 19])])
    assert [edges for _, *edges in places(config, [first, second], 5)] == [[0, 5], [24, 19]]


def test_single_frames_are_linked_as_by_a_tracker() -> None:
    """An image model is a clip model with T = 1."""
    config = ClipInferenceConfig(1, 1)
    clips = [clip_of(t, [(0, 0.9, [t]), (1, 0.8, [24 - t])][:: 1 if t % 2 else -1]) for t in range(10)]
    assert places(config, clips, 9) == [(0, 0, 9), (1, 24, 15)]


def test_a_longer_last_overlap_is_cut_to_the_regular_one_or_used_as_a_whole() -> None:
    """n = 11, T = 6, S = 4: the last clip begins at 5 and shares 5 frames; only the first three tell who is who."""
    stay = [(0, 0.9, [0] * 6), (0, 0.8, [20] * 6)]
    swap = [(0, 0.9, [0, 0, 0, 20, 20, 20]), (0, 0.8, [20, 20, 20, 0, 0, 0])]
    clips = [clip_of(0, stay), clip_of(4, stay), clip_of(5, swap)]  # type: ignore[arg-type]
    for cue_frames, ends in (("stride", [0, 20]), ("shared", [20, 0])):
        config = ClipInferenceConfig(6, 4, StitchingConfig(score_weight=0, cue_frames=cue_frames))  # type: ignore[arg-type]
        assert [edges for _, *edges in places(config, clips, 9)] == [
            [0, 0],
            [20, 20],
        ]  # equal scores: the earlier stays
        assert [edges[1] for _, *edges in places(config, clips, 10)] == ends


@pytest.mark.parametrize("birth", BIRTHS)
@pytest.mark.parametrize("cue", ["soft_volume", "binary_frame_mean"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_do_no_harm(bad: float, cue: str, birth: str) -> None:
    """A model gone wild in one query leaves the others alone."""
    stitching = StitchingConfig(mask_cue=cue, birth=birth, centre_weight=1, box_weight=1)  # type: ignore[arg-type]
    config = ClipInferenceConfig(6, 4, stitching)
    good = (0, 0.9, [0] * 6)
    clips = [clip_of(first, [good, (1, 0.8, [20] * 6)]) for first in (0, 4, 8)]
    clips[1].scores[1, 2] = clips[1].boxes[1] = bad
    clips[1].mask_logits[1] = bad
    tracks = by_track(stitched(clips, config))
    undisturbed = [
        track for track in tracks.values() if len(track) == 14 and {cell[0] for cell in track.values()} == {0}
    ]
    assert len(undisturbed) == 1
    assert all(0 <= cell[1] <= 1 for track in tracks.values() for cell in track.values())


def test_clips_without_detections() -> None:
    config = ClipInferenceConfig(6, 4)
    empty = [ClipDetections(first, np.zeros(0, np.int64), np.zeros((0, 6), np.float32), np.zeros((0, 6, 4), np.float32),
                            np.zeros(0, np.int64), torch.zeros(0, 6, *SIZE)) for first in (0, 4, 8)]  # fmt: skip
    frames = stitched(empty, config)
    assert [frame.frame for frame in frames] == list(range(14)) and not any(frame.instances for frame in frames)
    assert stitched([], config) == []
    middle = clip_of(4, [(0, 0.9, [0] * 6)])
    empty = [replace(clip, mask_logits=torch.zeros(0, 6, 4, 32)) for clip in empty]
    (track,) = by_track(stitched([empty[0], middle, empty[2]], config)).values()
    assert sorted(track) == [4, 5, 6, 7, 8, 9]


def test_what_is_kept_does_not_grow_with_the_video() -> None:
    config = ClipInferenceConfig(6, 4)
    stitcher = ClipStitcher(config, AS_THEY_ARE)
    clips = random_clips(5, 402, config)
    kept = []
    for clip in clips:
        stitcher.push(clip)
        kept.append(sum(len(track) for track in stitcher._tracks.values()))
    most = 4 * 6 + 4 * 2  # detections of the clip, and what the ones before left in the frames it shares
    assert max(kept) <= most and max(kept[80:]) > 0
