"""Online association against IDOL's formulas, and on scenes with known answers (vislab/stitching/association.py)."""

from __future__ import annotations

import math

import pytest
import torch
from scenes import Seen, predictions
from torch import Tensor

from vislab.errors import UserError
from vislab.stitching.association import AssociationConfig, AssociationTracker, Track, similarities
from vislab.stitching.video_stream import StreamConfig, VideoStream

CONFIG = AssociationConfig()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tracks_of(frames: list[list[Seen]], config: AssociationConfig = CONFIG) -> list[dict[float, int]]:
    """Frame by frame: track of the object at each x."""
    values = predictions(frames)
    stream = VideoStream(StreamConfig(config), None)
    found = []
    for frame, streamed in enumerate(stream.push(values)):
        cells = {}
        for instance in streamed.instances:
            place = (instance.mask_logits > 0).any(0).nonzero().float().mean().item()
            nearest = min(frames[frame], key=lambda seen, place=place: abs(seen.x * 24 - 0.5 - place))
            cells[nearest.x] = instance.track_id
        found.append(cells)
    return found


def test_bisoftmax() -> None:
    a, b = noise(3, 4), noise(2, 4, seed=1)
    found = similarities(a, b, "bisoftmax")
    for i in range(3):
        for j in range(2):
            over_tracks = math.exp(a[i] @ b[j]) / sum(math.exp(a[i] @ other) for other in b)
            over_detections = math.exp(a[i] @ b[j]) / sum(math.exp(other @ b[j]) for other in a)
            assert found[i, j].item() == pytest.approx((over_tracks + over_detections) / 2, rel=1e-5)
    torch.testing.assert_close(similarities(a, b, "softmax").sum(1), torch.ones(3))
    cosine = torch.nn.functional.cosine_similarity(a[:, None], b, dim=-1)
    torch.testing.assert_close(similarities(a, b, "cosine"), cosine)


def test_memory_is_a_weighted_mean_of_the_last_embeddings() -> None:
    track, seen = Track(0), noise(5, 4)
    for frame, score in enumerate((0.9, 0.2, 0.5, 0.3, 0.8)):
        track.see(frame, seen[frame], score, memory_length=3)
    weights = torch.tensor([0.5 + 1 / 3, 0.3 + 2 / 3, 0.8 + 1.0])
    torch.testing.assert_close(track.embedding(True), (weights[:, None] * seen[2:]).sum(0) / weights.sum())
    plain = torch.tensor([0.5, 0.3, 0.8])
    torch.testing.assert_close(track.embedding(False), (plain[:, None] * seen[2:]).sum(0) / plain.sum())
    assert (track.num_frames, track.last_frame) == (5, 4)


def test_objects_that_cross_keep_their_tracks() -> None:
    steps = [i / 10 for i in range(1, 10)]
    found = tracks_of([[Seen(3, x), Seen(4, 1 - x, y=0.8)] for x in steps if x != 0.5])
    assert all(frame == {x: 0, 1 - x: 1} for x, frame in zip([x for x in steps if x != 0.5], found, strict=True))


def test_an_object_that_comes_back_in_time_is_the_same() -> None:
    away = [[Seen(4, 0.8)]] * 9
    found = tracks_of([[Seen(3, 0.2), Seen(4, 0.8)], *away, [Seen(3, 0.4), Seen(4, 0.8)]])
    assert found[-1] == {0.4: 0, 0.8: 1}
    assert all(frame == {0.8: 1} for frame in found[1:-1])


def test_an_object_that_comes_back_late_is_new() -> None:
    others = [Seen(4, 0.8), Seen(5, 0.8, y=0.2)]
    frames = [[Seen(3, 0.2), *others], *[others] * 10, [Seen(3, 0.4), *others]]
    assert tracks_of(frames)[-1][0.4] == 3
    assert tracks_of(frames, AssociationConfig(max_unseen=11))[-1][0.4] == 0


def test_a_track_that_is_alone_goes_to_the_best_detection() -> None:
    """Released behaviour: the softmax over one track is 1, so that every similarity to it is above one half. Cosines
    do not have this."""
    frames = [[Seen(3, 0.2)], [Seen(4, 0.8)]]
    assert tracks_of(frames) == [{0.2: 0}, {0.8: 0}]
    assert tracks_of(frames, AssociationConfig(similarity="cosine")) == [{0.2: 0}, {0.8: 1}]


def test_look_alikes_are_told_apart_together() -> None:
    """Each alone is more like the first than not; the softmax over the detections settles it."""
    first, second = Seen(3, 0.2), Seen(4, 0.8, like=3)
    swapped = [Seen(4, 0.3, like=3, score=0.95), Seen(3, 0.7)]
    found = tracks_of([[first, second], swapped])
    assert found == [{0.2: 0, 0.8: 1}, {0.3: 1, 0.7: 0}]


def test_a_taken_track_is_not_given_twice() -> None:
    found = tracks_of([[Seen(3, 0.2)], [Seen(3, 0.2, score=0.9), Seen(3, 0.7, score=0.6)]])
    assert found[1] == {0.2: 0, 0.7: 1}


def test_births_need_a_score() -> None:
    found = tracks_of([[Seen(3, 0.2, score=0.15)], [Seen(3, 0.2, score=0.3)], [Seen(3, 0.2, score=0.15)]])
    assert found == [{}, {0.2: 0}, {0.2: 0}]


def test_duplicates_are_suppressed_and_start_nothing() -> None:
    found = tracks_of([[Seen(3, 0.2, score=0.8), Seen(4, 0.21, score=0.7, label=1), Seen(5, 0.7, score=0.3)]])
    assert found == [{0.2: 0, 0.7: 1}]


def test_long_tracks_are_preferred_among_likely_ones() -> None:
    tracker = AssociationTracker(CONFIG)
    row = torch.tensor([0.6, 0.7])
    counts = torch.tensor([4.0, 1.0])
    assert tracker._choose(row, counts) == 0
    assert AssociationTracker(AssociationConfig(frame_weight=False))._choose(row, counts) == 1
    assert tracker._choose(torch.tensor([0.4, 0.7]), counts) == 1
    assert tracker._choose(torch.tensor([0.4, 0.5]), counts) is None


def test_memory_is_bounded() -> None:
    tracker = AssociationTracker(CONFIG)
    for frame in range(60):
        look = torch.zeros(1, 64)
        look[0, frame] = 9.0
        tracker.update(frame, look, torch.tensor([0.9]))
        assert len(tracker.tracks) <= CONFIG.max_unseen
        assert all(len(track.embeddings) <= CONFIG.memory_length for track in tracker.tracks.values())


def test_a_frame_without_detections() -> None:
    tracker = AssociationTracker(CONFIG)
    assert tracker.update(0, torch.zeros(0, 4), torch.zeros(0)) == []
    tracker.update(1, torch.eye(4)[:1] * 3, torch.tensor([0.9]))
    assert tracker.update(2, torch.zeros(0, 4), torch.zeros(0)) == []
    assert list(tracker.tracks) == [0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_score", 1.5), ("memory_length", 0), ("max_unseen", 0), ("match_score", -0.5), ("match_score", 5.0),
        ("box_nms", -1), ("mask_nms", 7.0), ("min_frames", -1),
    ],
)  # fmt: skip
def test_user_mistakes(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"association.{field} is {value}, expected "):
        AssociationConfig(**{field: value})


def test_kinds_of_similarity() -> None:
    with pytest.raises(UserError, match=r"similarity' is 'x' \(str\), expected 'bisoftmax' or 'softmax' or 'cosine'"):
        AssociationConfig(similarity="x")  # type: ignore[arg-type]


def test_two_detections_of_a_frame_never_share_a_track() -> None:
    """Not even where nothing is too unlike: a taken track is out of reach at any threshold that is allowed."""
    frames = [[Seen(3, 0.2)], [Seen(3, 0.2, score=0.9), Seen(3, 0.5, score=0.8), Seen(4, 0.8, score=0.7)]]
    for similarity in ("bisoftmax", "softmax", "cosine"):
        found = tracks_of(frames, AssociationConfig(similarity=similarity, match_score=0.0))[1]  # type: ignore
        assert len(set(found.values())) == len(found) == 3
