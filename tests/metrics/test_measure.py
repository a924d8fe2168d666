"""Groups of videos and processes change no bit of what the metrics' modules give for all videos at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from random_sets import random_set, to_json, with_copies

from vislab.errors import UserError
from vislab.metrics import evaluate, measure
from vislab.metrics.errors import error_breakdown
from vislab.metrics.hota import hota_instances
from vislab.metrics.inputs import GroundTruth, Instance, read_ground_truth, read_results
from vislab.metrics.measure import METRICS, Measured, Settings
from vislab.metrics.mot import mot_instances
from vislab.metrics.parallel import Workers
from vislab.metrics.subsets import OCCLUSIONS, subset_matches
from vislab.metrics.visibility import visibility_iou_instances


@pytest.fixture
def one_group_per_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_GROUP_MASKS", 1)


def labelled_set(seed: int) -> tuple[dict, list[dict]]:
    """All that any metric needs; crowds do without a visible fraction, so that some videos have none at all."""
    rng = np.random.default_rng(seed)
    data = random_set(seed)
    gt, results = to_json(with_copies(data, {video: int(rng.integers(0, 4)) for video in data.videos}))
    for record in gt["annotations"]:
        record["opacities"] = rng.choice([0.4, 1], len(record["segmentations"])).tolist()
        if not record["iscrowd"]:
            record["visible_fractions"] = rng.random(len(record["segmentations"])).tolist()
    return gt, results


def read(gt: dict, results: list[dict]) -> tuple[GroundTruth, list[Instance]]:
    truth = read_ground_truth(gt, any_length=True)
    return truth, read_results(results, truth, any_length=True)


def at_once(truth: GroundTruth, detections: list[Instance]) -> Measured:
    return Measured(
        np.array(list(truth.videos), np.int64),
        subset_matches(truth, detections),
        {overlap: mot_instances(truth, detections, overlap=overlap) for overlap in ("box", "mask")},
        hota_instances(truth, detections),
        error_breakdown(truth, detections),
        visibility_iou_instances(truth, detections),
    )


def assert_equal(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            assert_equal(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for name in expected:
            assert_equal(found[name], expected[name])
    else:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("one_group_per_video")
def test_groups_change_nothing(seed: int) -> None:
    truth, detections = read(*labelled_set(seed))
    assert_equal(measure.measure(truth, detections, Settings(METRICS), Workers(1)), at_once(truth, detections))


@pytest.mark.usefixtures("one_group_per_video")
def test_video_with_crowds_only() -> None:
    """Its group does not know of occlusion, the others do."""
    gt, results = to_json(random_set(9, crowds=False))
    first = min(record["video_id"] for record in gt["annotations"])
    for record in gt["annotations"]:
        if record["video_id"] == first:
            record["iscrowd"] = 1
        else:
            record["visible_fractions"] = [0.3] * len(record["segmentations"])
    truth, detections = read(gt, results)
    found = measure.measure(truth, detections, Settings(("ap",)), Workers(1)).matches
    assert OCCLUSIONS[0] in found and any(instance.is_crowd for instance in truth.instances)
    assert_equal(found, subset_matches(truth, detections))


@pytest.mark.usefixtures("one_group_per_video")
def test_occlusion_known_in_some_videos_only_is_refused() -> None:
    gt, results = to_json(random_set(9, crowds=False))
    record = gt["annotations"][0]
    record["visible_fractions"] = [0.3] * len(record["segmentations"])
    with pytest.raises(UserError, match="visible_fractions is missing"):
        evaluate(gt, results)


@pytest.mark.usefixtures("one_group_per_video")
def test_workers_change_nothing() -> None:
    gt, results = labelled_set(9)
    frames = [
        evaluate(gt, results, METRICS, per_category=True, per_video=True, replicates=300, workers=number)
        for number in (1, 2, 3)
    ]
    for frame in frames[1:]:
        assert frame.equals(frames[0])


@pytest.mark.usefixtures("one_group_per_video")
def test_order_of_the_input_changes_nothing_but_ties_of_ap() -> None:
    gt, results = labelled_set(9)
    rng = np.random.default_rng(0)
    results = [
        record | {"score": float(score)} for record, score in zip(results, rng.random(len(results)), strict=True)
    ]
    shuffled = gt | {name: [gt[name][i] for i in rng.permutation(len(gt[name]))] for name in ("videos", "annotations")}
    other = [results[i] for i in rng.permutation(len(results))]
    first, second = (evaluate(*data, ("mot", "hota"), replicates=50) for data in ((gt, results), (shuffled, other)))
    assert first.equals(second)
