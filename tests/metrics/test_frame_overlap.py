"""Overlaps frame by frame against dense masks, and the rules that decide what takes part."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from random_sets import random_set, to_json
from tracking_sets import detection, float_box_ious, labelled, read, strip

from vislab.errors import UserError
from vislab.metrics.frame_overlap import Scene, frame_ious, tight_boxes, tracking_scenes
from vislab.metrics.hota import hota_instances
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.mot import mot_instances


def dense_box(mask: np.ndarray | None) -> list[int]:
    if mask is None or not mask.any():
        return [0, 0, 0, 0]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def dense_iou(a: np.ndarray | None, b: np.ndarray | None, overlap: str) -> float:
    if a is None or b is None or not a.any() or not b.any():
        return 0.0
    if overlap == "mask":
        return (a & b).sum() / (a | b).sum()
    boxes = [np.array([x, y, right - x, low - y]) for x, y, right, low in (dense_box(a), dense_box(b))]
    return float(float_box_ious(*boxes))


@pytest.mark.parametrize("overlap", ["box", "mask"])
def test_equals_dense_masks(overlap: str) -> None:
    for seed in range(12):
        data = random_set(seed)
        gt, results = to_json(data)
        truth = read_ground_truth(gt, any_length=True)
        found = read_results(results, truth, any_length=True)
        ious = frame_ious(truth.instances, found, overlap)  # type: ignore[arg-type]
        lengths = [len(track.masks) for track in (*data.truths, *data.detections)]
        assert ious.dtype == np.float64
        assert ious.shape == (max(lengths, default=0), len(data.truths), len(data.detections))
        for frame, m, n in np.ndindex(ious.shape):
            a, b = (t.masks[frame] if frame < len(t.masks) else None for t in (data.truths[m], data.detections[n]))
            assert ious[frame, m, n] == dense_iou(a, b, overlap)


def test_tight_boxes_equal_dense_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        masks = [rng.random((4, 20)) < rng.choice([0.02, 0.3, 1]) for _ in range(3)]
        truth, _ = read([labelled(*masks, None)], [])
        found = tight_boxes(truth.instances, 5)
        assert found.shape == (5, 1, 4) and found.dtype == np.int64
        assert found[:, 0].tolist() == [dense_box(mask) for mask in (*masks, None, None)]


def test_runs_of_no_pixels() -> None:
    """Legal: the same mask as without them."""
    odd = {"size": [10, 10], "counts": "50:3X2"}  # runs 5 0 10 3 82
    plain = {"size": [10, 10], "counts": "?3b2"}  # runs 15 3 82
    areas = {"areas": [3.0], "iscrowd": 0}
    truth, found = read(
        [{"video_id": 1, "category_id": 1, "segmentations": [odd]} | areas],
        [{"video_id": 1, "category_id": 1, "score": 1, "segmentations": [rle]} for rle in (odd, plain)],
    )
    assert frame_ious(truth.instances, found, "box").tolist() == [[[1, 1]]]
    assert frame_ious(truth.instances, found, "mask").tolist() == [[[1, 1]]]
    assert tight_boxes(truth.instances, 1).tolist() == [[[1, 5, 2, 8]]]


def test_nothing_to_compare() -> None:
    truth, found = read([labelled(strip(0, 3), None)], [detection(strip(0, 3), None)])
    assert frame_ious([], [], "box").shape == (0, 0, 0)
    for overlap in ("box", "mask"):
        assert frame_ious(truth.instances, [], overlap).shape == (2, 1, 0)  # type: ignore[arg-type]
        assert frame_ious([], found, overlap).shape == (2, 0, 1)  # type: ignore[arg-type]
        assert list(tracking_scenes(read([], [])[0], [], overlap=overlap)) == []  # type: ignore[arg-type]


def only_scene(annotations: list[dict], results: list[dict], **options: object) -> Scene:
    truth, found = read(annotations, results)
    (scene,) = tracking_scenes(truth, found, **({"overlap": "box"} | options))  # type: ignore[arg-type]
    return scene


def test_absent_and_empty_masks_are_no_objects() -> None:
    mask, empty = strip(0, 4), strip(0, 0)
    scene = only_scene([labelled(mask, None, empty)], [detection(None, empty, mask), detection(empty, empty, empty)])
    assert scene.truth_present.tolist() == [[True], [False], [False]]
    assert scene.found_present.tolist() == [[False], [False], [True]]  # the last detection is nowhere
    assert not scene.ious.any()


def test_crowd_takes_detections_that_match_nothing() -> None:
    """Columns 0-8 are a crowd; an object stands in its columns 0-4."""
    annotations = [labelled(strip(0, 8), crowd=True, category=2), labelled(strip(0, 4))]
    cases = {
        "is the object, in the crowd": (strip(0, 4), True),
        "in the crowd only": (strip(5, 8), False),
        "exactly half in the crowd": (strip(6, 10), True),
        "more than half in the crowd": (strip(5, 10), False),
        "outside": (strip(10, 14), True),
    }
    for overlap in ("box", "mask"):
        for agnostic in (True, False):
            options = {"overlap": overlap, "class_agnostic": agnostic}
            for case, (mask, kept) in cases.items():
                scene = only_scene(annotations, [detection(mask)], **options)
                assert scene.found_present.tolist() == [[kept]], case
    twice = only_scene(annotations, [detection(strip(0, 4)), detection(strip(0, 5))])
    assert twice.found_present.tolist() == [[True, False]] and not twice.ious[..., 1].any()


def test_crowd_counts_only_in_its_frames() -> None:
    crowd = labelled(strip(0, 8), None, crowd=True)
    scene = only_scene([crowd], [detection(strip(0, 8), strip(0, 8))])
    assert scene.found_present.tolist() == [[False], [True]] and scene.ious.shape == (2, 0, 1)


def test_scenes_by_video_and_category() -> None:
    mask = strip(0, 4)
    annotations = [labelled(mask, category=5), labelled(mask, category=3), labelled(mask, video=7, category=5)]
    results = [detection(mask, category=3), detection(mask, video=4, category=3)]
    truth, found = read(annotations, results)
    merged = list(tracking_scenes(truth, found, overlap="box"))
    assert [(scene.video, *scene.ious.shape[1:]) for scene in merged] == [(0, 2, 1), (1, 0, 1), (2, 1, 0)]
    apart = list(tracking_scenes(truth, found, overlap="box", class_agnostic=False))
    assert [(s.video, *s.ious.shape[1:]) for s in apart] == [(0, 1, 1), (0, 1, 0), (1, 0, 1), (2, 1, 0)]


def test_options_are_checked() -> None:
    truth, found = read([], [])
    with pytest.raises(UserError, match="overlap is 'volume', expected one of box, mask"):
        list(tracking_scenes(truth, found, overlap="volume"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="score_threshold is not a number"):
        list(tracking_scenes(truth, found, overlap="box", score_threshold=float("nan")))


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_input_order_and_ids_change_nothing(class_agnostic: bool) -> None:
    """Not even with equal scores, equal masks and equal overlaps."""
    rng = np.random.default_rng(0)
    for seed in range(15):
        gt, results = to_json(random_set(seed))
        results += results[:3]
        values = []
        for _ in range(3):
            truth = read_ground_truth(gt, any_length=True)
            found = read_results(results, truth, any_length=True)
            for metric in (mot_instances, hota_instances):
                counts = metric(truth, found, overlap="mask", score_threshold=0.1, class_agnostic=class_agnostic)
                values.append(counts.per_video() | counts.summaries())
            for records in (gt["videos"], gt["categories"], gt["annotations"], results):
                records[:] = [records[i] for i in rng.permutation(len(records))]
            for record, identifier in zip(gt["annotations"], rng.permutation(1000), strict=False):
                record["id"] = int(identifier)
        for later in (values[2:4], values[4:]):
            for first, second in zip(values[:2], later, strict=True):
                for name, value in first.items():
                    np.testing.assert_array_equal(second[name], value)


def test_long_video_with_many_tracks_needs_little_memory() -> None:
    """What counts is how many arrays over all frames and pairs exist at once: with 300 frames and 100 tracks on either
    side each of them takes 24 MB.
    """
    rng = np.random.default_rng(0)
    blobs = [strip(first, first + 4) for first in rng.integers(0, 16, 90)]
    truth, found = read(
        [labelled(*[blob] * 60) for blob in blobs[:40]], [detection(*[blob] * 60) for blob in blobs[40:]]
    )
    for metric, overlap in ((mot_instances, "box"), (hota_instances, "mask")):
        tracemalloc.start()
        metric(truth, found, overlap=overlap)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 15 * 60 * 40 * 50 * 8, metric.__name__
