"""Changes, switches, losses and merges of identities: made by hand, and against the MOT measures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from random_sets import random_set, to_json
from tracking_sets import detection, labelled, read, strip

from vislab.metrics.frame_overlap import frame_ious
from vislab.metrics.identity_events import FATES, KINDS, IdentityEvent, VideoIdentities, count_fates, find_identities
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.mot import mot_instances

A, B, C = strip(0, 4), strip(10, 14), strip(16, 20)
TRUTH = [labelled(A, A, A, A), labelled(B, B, B, B)]


def video_of(*found: dict, truth: list[dict] = TRUTH, overlap: str = "mask") -> VideoIdentities:
    (video,) = find_identities(*read(truth, list(found)), overlap).values()  # type: ignore[arg-type]
    return video


def test_nothing_happens_to_what_is_followed() -> None:
    video = video_of(
        detection(A, A, A, A, score=0.5), detection(B, B, B, B, score=0.6), detection(A, A, A, C, score=0.4)
    )
    assert video.events == ()
    assert video.partners.tolist() == [[1, 0]] * 4, "tracks by falling score"
    assert [found.score for found in video.found] == [0.6, 0.5, 0.4] and video.present.all()


def test_another_track_is_a_change() -> None:
    """Also after a gap in which the object is not visible, which is no loss."""
    for masks in ((A, A, A, A), (A, A, None, A)):
        video = video_of(
            detection(A, A, None, None, score=0.9),
            detection(None, None, *masks[2:], score=0.8),
            truth=[labelled(*masks)],
        )
        frame = 2 if masks[2] is not None else 3
        assert video.events == (IdentityEvent("change", 0, 1, frame),)


def test_the_track_of_another_object_is_a_switch() -> None:
    swapped = video_of(detection(A, A, B, B), detection(B, B, A, A, score=0.8))
    assert swapped.events == (IdentityEvent("switch", 0, 1, 2, 1), IdentityEvent("switch", 1, 1, 2, 0))
    taken = video_of(detection(A, A, None, None), detection(B, B, A, A, score=0.8))
    assert [(e.kind, e.owner, e.before, e.frame, e.other) for e in taken.events] == [
        ("switch", 0, 1, 2, 1),
        ("loss", 1, 1, 2, None),
    ]


def test_a_track_belongs_to_the_object_that_had_it_last() -> None:
    first = [detection(mask, None, None, None, score=score) for mask, score in ((A, 0.8), (C, 0.7))]
    video = video_of(detection(B, A, None, C, score=0.9), *first, truth=[*TRUTH, labelled(C, C, C, C)])
    switches = [event for event in video.events if event.kind == "switch"]
    b, a, c = (video.partners[0].tolist().index(track) for track in range(3))
    assert switches == [IdentityEvent("switch", a, 0, 1, b), IdentityEvent("switch", c, 0, 3, a)]


def test_a_visible_object_without_a_track_is_lost_until_it_is_found() -> None:
    again = video_of(detection(A, None, A, None), detection(B, B, B, B, score=0.8))
    assert again.events == (IdentityEvent("loss", 0, 0, 1), IdentityEvent("loss", 0, 2, 3))
    assert video_of(detection(None, None, A, A)).events == (), "found late, or never, is not lost"


def test_a_track_of_another_object_that_swallows_one_is_a_merge() -> None:
    """The gap begins as a loss; its one event is that in the first frame in which the other's track covers the half."""
    near, wide, half = strip(4, 10), strip(0, 10), strip(2, 10)
    truth = [labelled(A, A, A, A), labelled(near, near, near, near)]
    own = detection(A, None, None, None, score=0.9)
    for cover in (wide, half):
        video = video_of(own, detection(near, near, cover, cover, score=0.8), truth=truth)
        assert video.events == (IdentityEvent("merge", 0, 0, 2, 1),)
    video = video_of(own, detection(near, near, strip(3, 10), near, score=0.8), truth=truth)
    assert video.events == (IdentityEvent("loss", 0, 0, 1),), "a quarter is not enough"
    nobody = video_of(own, detection(None, None, wide, wide, score=0.8), truth=truth[:1])
    assert nobody.events[0].kind == "loss", "of what covers it no other object is the owner"


def test_fates_of_the_same_object_with_other_detections() -> None:
    event = IdentityEvent("change", 0, 1, 2)
    both = detection(B, B, B, B, score=0.8)
    fates = {
        "kept": [detection(None, A, A, None), both],
        "failed": [detection(A, A, None, None), both],
        "not found": [detection(A, None, None, A), both],
    }
    assert tuple(fates) == FATES
    for fate, found in fates.items():
        assert video_of(*found).fate(event) == fate
    assert video_of().fate(event) == "not found"
    hidden = [labelled(A, None, A, A), TRUTH[1]]
    assert video_of(detection(A, None, A, A), truth=hidden).fate(IdentityEvent("loss", 0, 0, 2)) == "kept"


def test_fates_are_counted_over_videos_both_ways() -> None:
    truth = TRUTH + [record | {"video_id": 2} for record in TRUTH]
    changes = [detection(A, A, None, None, video=v) for v in (1, 2)] + [
        detection(None, None, A, A, video=v) for v in (1, 2)
    ]
    keeps = [detection(A, A, A, A, video=2), detection(A, A, None, A, video=1)]
    one, two = (find_identities(*read(truth, found), "mask") for found in (changes, keeps))
    assert count_fates(one, two) == Counter({("change", "failed"): 1, ("change", "kept"): 1})
    assert count_fates(two, one) == Counter({("loss", "failed"): 1})


def test_crowds_and_low_scores_take_no_part() -> None:
    truth, found = read([*TRUTH, labelled(B, B, B, B, crowd=True)], [detection(A, A, A, A, score=0.2)])
    (video,) = find_identities(truth, found, "box", 0.3).values()
    assert video.found == () and len(video.truths) == 2 and not video.events
    assert find_identities(*read([], []), "box") == {}


def random_world(seed: int) -> tuple[list[dict], list[dict]]:
    """Three objects side by side, and tracks that follow one, change to another or cover two of them, or nothing."""
    rng = np.random.default_rng(seed)
    places = [strip(0, 4), strip(4, 10), strip(12, 16)]
    wide = [strip(0, 10), strip(2, 10)]
    truth = [labelled(*(None if rng.random() < 0.1 else place for _ in range(10))) for place in places]
    found = []
    for _ in range(5):
        masks, now = [], rng.integers(3)
        for _ in range(10):
            now = rng.integers(3) if rng.random() < 0.2 else now
            masks.append(None if rng.random() < 0.2 else wide[rng.integers(2)] if rng.random() < 0.2 else places[now])
        found.append(detection(*masks, score=float(rng.random())))
    return truth, found


def check_partners(video: VideoIdentities, overlap: str) -> None:
    """Whoever is matched overlaps."""
    ious = frame_ious(video.truths, video.found, overlap)  # type: ignore[arg-type]
    frames, owners = np.nonzero(video.partners >= 0)
    assert (ious[frames, owners, video.partners[frames, owners]] >= 0.5).all()
    assert video.present[frames, owners].all()


@pytest.mark.parametrize("overlap", ["box", "mask"])
def test_events_add_up_to_what_motmetrics_counts(overlap: str) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(40):
        truth, found = read(*random_world(seed))
        counts = mot_instances(truth, found, overlap=overlap, score_threshold=0.3)  # type: ignore[arg-type]
        (video,) = find_identities(truth, found, overlap, 0.3).values()  # type: ignore[arg-type]
        check_partners(video, overlap)
        own = Counter(event.kind for event in video.events)
        assert own["change"] + own["switch"] == counts.switches.sum()
        assert own["loss"] + own["merge"] >= counts.fragments.sum()
        kinds += own
        for event in video.events:
            before, now = (video.partners[frame, event.owner] for frame in (event.before, event.frame))
            assert before >= 0 and (now >= 0) == (event.kind in ("change", "switch")) and now != before
            assert (event.other is None) == (event.kind in ("change", "loss")) and event.other != event.owner
            assert video.fate(event) == "failed"
    assert min(kinds[kind] for kind in KINDS) > 10, kinds


def test_tracks_of_any_length() -> None:
    for seed in range(40):
        gt, results = to_json(random_set(seed))
        truth = read_ground_truth(gt, any_length=True)
        found = read_results(results, truth, any_length=True)
        switches = mot_instances(truth, found, score_threshold=0.3).switches.sum()
        videos = find_identities(truth, found, "box", 0.3).values()
        for video in videos:
            check_partners(video, "box")
        assert sum(event.kind in ("change", "switch") for video in videos for event in video.events) == switches


def test_objects_stand_in_one_order_for_any_detections() -> None:
    truth, found = read(TRUTH[::-1], [detection(A, A, A, A), detection(B, B, B, B, score=0.8)])
    one, two = (find_identities(truth, each, "mask")[1] for each in (found, found[1:]))
    assert one.truths == two.truths and two.partners.tolist() == [[-1, 0]] * 4
    np.testing.assert_array_equal(one.present, two.present)
