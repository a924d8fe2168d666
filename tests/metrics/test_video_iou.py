"""Overlaps from run-length codes against dense masks, and known values of real method output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from random_sets import random_set, to_json
from slow_evaluator import track_iou

from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.video_iou import frame_intersections, video_iou


def test_video_iou_equals_dense_masks() -> None:
    for seed in range(25):
        data = random_set(seed)
        gt, results = to_json(data)
        truth = read_ground_truth(gt, any_length=True)
        found = video_iou(read_results(results, truth, any_length=True), truth.instances)
        expected = [[track_iou(d.masks, g.masks) for g in data.truths] for d in data.detections]
        np.testing.assert_array_equal(found, np.reshape(expected, found.shape))


def test_frame_intersections_equal_dense_masks() -> None:
    data = random_set(5)
    gt, results = to_json(data)
    truth = read_ground_truth(gt, any_length=True)
    found = frame_intersections(read_results(results, truth, any_length=True), truth.instances)
    assert found.dtype == np.int64 and found.any()
    for n, detection in enumerate(data.detections):
        for m, labelled in enumerate(data.truths):
            for frame, (a, b) in enumerate(zip(detection.masks, labelled.masks, strict=False)):
                assert found[frame, n, m] == (0 if a is None or b is None else (a & b).sum())


def test_nothing_to_compare() -> None:
    truth = read_ground_truth(to_json(random_set(5))[0], any_length=True)
    assert video_iou([], truth.instances).shape == (0, len(truth.instances))
    assert video_iou(truth.instances, []).shape == (len(truth.instances), 0)
    assert frame_intersections([], []).shape == (0, 0, 0)


def test_davis_results(real_data: Path) -> None:
    """OSVOS and RVOS on two DAVIS videos, thinned and scaled; values computed with pycocotools, not published."""
    truth = read_ground_truth(json.loads((real_data / "real-mini" / "instances.json").read_text()))
    for method, video, expected in (
        ("osvos", 1, [[0.424683, 0.029573], [0.016560, 0.654692]]),
        ("rvos", 1, [[0.136124, 0.387627], [0.007467, 0.013313]]),
        ("osvos", 5, [[0.605295]]),
        ("rvos", 5, [[0.629155], [0.031554]]),
    ):
        file = real_data / "metric-real" / "davis-val-preds" / f"{method}.json"
        results = [record for record in json.loads(file.read_text()) if record["video_id"] == video]
        labelled = [instance for instance in truth.instances if instance.video_id == video]
        found = video_iou(read_results(results, truth), labelled)
        np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-6)
        assert (found[2:] < 0.05).all()
        assert pytest.approx(found.max(), abs=1e-6) == np.max(expected)
