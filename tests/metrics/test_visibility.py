"""IoU by visibility against plain loops and cases done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from random_sets import code, random_set, to_json
from slow_evaluator import DenseSet, track_iou

from vislab.errors import UserError
from vislab.metrics import visibility_iou
from vislab.metrics.visibility import GROUPS, frame_groups


def group_of(opacities: list[float | None], present: list[bool], frame: int, window: int) -> int:
    if not present[frame]:
        return -1
    if opacities[frame] == 1:
        return 0
    near = [other for other in range(len(present)) if 0 < abs(other - frame) <= window]
    return 1 if any(present[other] and opacities[other] == 1 for other in near) else 2


def slow(data: DenseSet, opacities: list[list[float | None]], window: int) -> tuple[np.ndarray, np.ndarray]:
    sums, counts = np.zeros((2, len(data.videos), 3))
    for truth, visible in zip(data.truths, opacities, strict=True):
        if truth.crowd:
            continue
        found = sorted((d for d in data.detections if d.video == truth.video), key=lambda d: -d.score)[:10]
        best, best_iou = None, -1.0
        for detection in found:
            if track_iou(detection.masks, truth.masks) > best_iou:
                best, best_iou = detection, track_iou(detection.masks, truth.masks)
        present = [mask is not None and bool(mask.any()) for mask in truth.masks]
        for frame in range(len(truth.masks)):
            group = group_of(visible, present, frame, window)
            if group >= 0:
                guess = best.masks[frame] if best and frame < len(best.masks) else None
                sums[sorted(data.videos).index(truth.video), group] += track_iou([guess], [truth.masks[frame]])
                counts[sorted(data.videos).index(truth.video), group] += 1
    return sums, counts


@pytest.mark.parametrize("window", [0, 1, 2])
def test_equals_plain_loops(window: int) -> None:
    rng = np.random.default_rng(window)
    reached = np.zeros(3)
    for seed in range(15):
        data = random_set(seed)
        gt, results = to_json(data)
        opacities = [[float(rng.choice([0.1, 0.1, 1])) for _ in track.masks] for track in data.truths]
        opacities = [
            [
                value if mask is not None or rng.random() < 0.5 else None
                for value, mask in zip(row, t.masks, strict=True)
            ]
            for row, t in zip(opacities, data.truths, strict=True)
        ]
        for record, row in zip(gt["annotations"], opacities, strict=True):
            record["opacities"] = row
        found = visibility_iou(gt, results, window)
        sums, counts = slow(data, opacities, window)
        np.testing.assert_allclose(found.iou_sums, sums, atol=1e-12)
        np.testing.assert_array_equal(found.frame_counts, counts)
        reached += counts.sum(0)
    assert (reached > 0).tolist() == [True, window > 0, True]


def test_frame_groups_by_hand() -> None:
    opacities = np.array([0.1, 0.1, 1, 0.1, 0.1, 0.1, 1, np.nan, 0.1])
    present = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1], bool)  # evident while absent is no neighbour
    assert frame_groups(opacities, present, 1).tolist() == [2, 1, 0, 1, 2, 2, -1, -1, 2]
    assert frame_groups(opacities, present, 2).tolist() == [1, 1, 0, 1, 1, 2, -1, -1, 2]
    assert frame_groups(opacities, present, 50).tolist() == [1, 1, 0, 1, 1, 1, -1, -1, 1]
    assert frame_groups(np.zeros(0), np.zeros(0, bool), 2).tolist() == []


def simple(opacities: object) -> tuple[dict, list[dict]]:
    mask = np.zeros((3, 8), bool)
    mask[:, :4] = True
    annotation = {"video_id": 1, "category_id": 1, "segmentations": [code(mask)] * 2 + [None], "areas": [12, 12, None]}
    gt = {
        "videos": [{"id": 1, "height": 3, "width": 8, "length": 3}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [annotation | ({} if opacities is None else {"opacities": opacities})],
    }
    half = np.zeros((3, 8), bool)
    half[:, 2:4] = True
    detections = [{"score": 0.4, "segmentations": [code(half), code(mask), None]}]
    for place in range(9):  # elsewhere, in a frame in which the object is absent
        other = np.zeros((3, 8), bool)
        other.flat[: place + 1] = True
        detections.append({"score": 0.9, "segmentations": [None, None, code(other)]})
    return gt, [{"video_id": 1, "category_id": 2} | detection for detection in detections]


def test_best_of_ten_of_any_category() -> None:
    gt, results = simple([0.1, 1, None])
    found = visibility_iou(gt, results)
    assert found.iou_sums.tolist() == [[1, 0.5, 0]] and found.frame_counts.tolist() == [[1, 1, 0]]
    means = {name: values.tolist() for name, values in found.summaries().items()}
    assert means["evident"] == [1] and means[GROUPS[1]] == [0.5] and math.isnan(means[GROUPS[2]][0])
    again = [results[-1] | {"category_id": 1}, *results]
    assert visibility_iou(gt, again).iou_sums.tolist() == found.iou_sums.tolist(), "a track with two categories is one"
    another = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [None, None, code(np.eye(3, 8) > 0)]}
    eleventh = visibility_iou(gt, [another, *results])
    assert eleventh.iou_sums.tolist() == [[0, 0, 0]] and eleventh.frame_counts.tolist() == [[1, 1, 0]]
    assert visibility_iou(gt, []).iou_sums.tolist() == [[0, 0, 0]]


def test_resampling_counts_videos() -> None:
    gt, results = simple([0.1, 1, None])
    gt["videos"].append({"id": 2, "height": 3, "width": 8, "length": 3})
    gt["annotations"].append(gt["annotations"][0] | {"video_id": 2})
    found = visibility_iou(gt, results)  # nothing found in the second video
    weights = np.array([[1, 1], [3, 1], [0, 2], [0, 0]])
    np.testing.assert_allclose(found.summaries(weights, ["evident"])["evident"], [0.5, 0.75, 0, np.nan])


@pytest.mark.parametrize(
    ("opacities", "message"),
    [
        (None, r"ground truth: annotations\[0\].opacities is missing"),
        ([1.0], r"annotations\[0\].opacities has 1 entries, segmentations has 3"),
        ([1, None, None], r"annotations\[0\].opacities\[1\] is null, expected a number from 0 to 1"),
        ([1, 1, 1.5], r"annotations\[0\].opacities\[2\] is 1.5"),
        ([1, "x", 1], r"annotations\[0\].opacities\[1\] is \"x\""),
    ],
)
def test_opacities_are_checked(opacities: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        visibility_iou(*simple(opacities))
