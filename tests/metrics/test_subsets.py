"""AP by track length and occlusion against the slow evaluator, and cases done by hand."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import slow_evaluator
from random_sets import code, random_set, to_json, with_copies
from slow_evaluator import THRESHOLDS, DenseSet, cell, curve, track_iou

from vislab.errors import UserError
from vislab.metrics import Matches, match
from vislab.metrics.inputs import GroundTruth, Instance, read_ground_truth, read_results
from vislab.metrics.matches import counted_videos
from vislab.metrics.subsets import OCCLUSIONS, TRACK_LENGTHS, occlusion, subset_matches, track_length

STATISTICS = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
LABELS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
LEVELS = [(0, 0.25), (0.25, 0.5), (0.5, 1)]


def read(gt: dict, results: list[dict]) -> tuple[GroundTruth, list[Instance]]:
    truth = read_ground_truth(gt, any_length=True)
    return truth, read_results(results, truth, any_length=True)


def slow_summary(data: DenseSet, low: float, high: float, values: list[float], found: list[float]) -> dict[str, float]:
    """Statistics of the objects whose value is in the range, by way of the slow evaluator's rule for areas.

    values, found: of each object and of each detection; these stand in for the areas.
    """
    for truth, value in zip(data.truths, values, strict=True):
        truth.areas = [value + 1]  # an area of 0 would not count
    for detection, value in zip(data.detections, found, strict=True):
        detection.mask_area = value + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(slow_evaluator.AREAS, "subset", (low + 1, high + 1))
        ious = {}
        for video in data.videos:
            for category in data.categories:
                truths, ranked = cell(data, video, category)
                ious[video, category] = [[track_iou(d.masks, g.masks) for g in truths] for d in ranked]
        results = {}
        wanted = [("AP", THRESHOLDS, 100, 0), ("AP50", [0.5], 100, 0), ("AP75", [0.75], 100, 0)]
        for name, thresholds, limit, which in [*wanted, *((f"AR{n}", THRESHOLDS, n, 1) for n in (1, 10, 100))]:
            curves = [
                curve(data, ious, category, t, "subset", limit) for category in data.categories for t in thresholds
            ]
            defined = [pair[which] for pair in curves if pair is not None]
            results[name] = sum(defined) / len(defined) if defined else math.nan
    return results


def assert_same(matches: Matches, expected: dict[str, float]) -> int:
    """Returns whether AP is defined."""
    found = matches.summary()
    assert tuple(found) == STATISTICS == matches.statistics
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    return not math.isnan(found["AP"])


def length(masks: list[np.ndarray | None]) -> int:
    return sum(mask is not None and bool(mask.any()) for mask in masks)


def test_track_length_equals_slow_evaluator() -> None:
    defined = np.zeros(3, int)
    for seed in range(25):
        data = random_set(seed)
        matches = subset_matches(*read(*to_json(data)), length_bounds=(1, 3))
        assert tuple(matches) == ("all", *TRACK_LENGTHS)
        lengths, found = ([length(t.masks) for t in side] for side in (data.truths, data.detections))
        for index, bounds in enumerate([(0, 1), (2, 3), (4, 1000)]):
            defined[index] += assert_same(matches[TRACK_LENGTHS[index]], slow_summary(data, *bounds, lengths, found))
    assert (defined >= 5).all()


def slow_occlusion(scores: list[float]) -> float:
    worse = sorted(scores, reverse=True)[: (len(scores) + 1) // 2]
    return sum(worse) / len(worse) if worse else -5


@pytest.mark.parametrize("labelled", [True, False])
def test_occlusion_equals_slow_evaluator(labelled: bool) -> None:
    defined = np.zeros(3, int)
    rng = np.random.default_rng(0)
    for seed in range(20):
        data = random_set(seed)
        data.truths = [replace(truth) for truth in data.truths]  # twins become two objects
        gt, results = to_json(data)
        values = []
        for record, truth in zip(gt["annotations"], data.truths, strict=True):
            present = [mask is not None and bool(mask.any()) for mask in truth.masks]
            if labelled:
                kinds = [str(rng.choice([*LABELS])) if seen else None for seen in present]
                record["occlusion"] = kinds
                values.append(slow_occlusion([LABELS[kind] for kind in kinds if kind]))
            else:
                hidden = rng.choice([0, 0.25, 0.5, 0.75, rng.random()], len(present)).tolist()
                record["visible_fractions"] = [
                    1 - share if seen else None for share, seen in zip(hidden, present, strict=True)
                ]
                values.append(slow_occlusion([h for h, seen in zip(hidden, present, strict=True) if seen]))
        matches = subset_matches(*read(gt, results))
        assert tuple(matches) == ("all", *TRACK_LENGTHS, *(OCCLUSIONS if data.truths else ()))
        for index, (low, high) in enumerate(LEVELS if data.truths else []):  # a detection lies in every level
            expected = slow_summary(data, low, high, values, [low] * len(data.detections))
            defined[index] += assert_same(matches[OCCLUSIONS[index]], expected)
    assert (defined >= 5).all()


# ---------------------------------------------------------------------------------------------------------------------
# By hand: objects one column wide in a video of four frames.


def masks(column: int, frames: int) -> list[dict | None]:
    mask = np.zeros((4, 20), bool)
    mask[:, column] = True
    return [code(mask) if frame < frames else None for frame in range(4)]


def areas(truth: dict) -> list[float | None]:
    return [None if mask is None else 4.0 for mask in truth["segmentations"]]


def small_set(truths: list[dict], found: list[tuple[float, list]]) -> tuple[dict, list[dict]]:
    gt = {
        "videos": [{"id": 3, "height": 4, "width": 20, "length": 4}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"video_id": 3, "category_id": 1, "areas": areas(truth)} | truth for truth in truths],
    }
    return gt, [{"video_id": 3, "category_id": 1, "score": score, "segmentations": masks} for score, masks in found]


def test_detections_count_by_their_own_length() -> None:
    objects = [{"segmentations": masks(0, 1)}, {"segmentations": masks(1, 4)}]
    found = [(0.9, masks(9, 4)), (0.8, masks(0, 1)), (0.7, masks(1, 4))]  # the wrong one is long
    matches = subset_matches(*read(*small_set(objects, found)), length_bounds=(1, 2))
    values = [matches[name].summary()["AP50"] for name in TRACK_LENGTHS]
    assert values == pytest.approx([1, math.nan, 0.5], nan_ok=True)
    assert [counted_videos(matches[name], "AP") for name in TRACK_LENGTHS] == [1, 0, 1]


def test_a_false_positive_counts_in_every_level() -> None:
    objects = [
        {"segmentations": masks(0, 4), "occlusion": ["no_occlusion"] * 4},
        {"segmentations": masks(1, 4), "occlusion": ["severe_occlusion"] * 4},
    ]
    found = [(0.9, masks(9, 4)), (0.8, masks(0, 4)), (0.7, masks(1, 4))]
    matches = subset_matches(*read(*small_set(objects, found)))
    values = [matches[name].summary()["AP50"] for name in OCCLUSIONS]
    assert values == pytest.approx([0.5, math.nan, 0.5], nan_ok=True)


@pytest.mark.parametrize(
    ("labels", "expected", "levels"),
    [
        (["no_occlusion", "slight_occlusion", None, "severe_occlusion"], 0.5, [1, 2]),
        (["no_occlusion"] * 3 + ["severe_occlusion"], 0.375, [1]),
        (["slight_occlusion"] * 4, 0.25, [0, 1]),
        (["no_occlusion"] * 4, 0, [0]),
        ([None, None, None, "severe_occlusion"], 0.75, [2]),
        ([None] * 4, math.nan, []),
    ],
)
def test_occlusion_by_labels(labels: list, expected: float, levels: list[int]) -> None:
    truth, detections = read(*small_set([{"segmentations": masks(0, 4), "occlusion": labels}], []))
    assert occlusion(truth.instances[0]) == pytest.approx(expected, nan_ok=True)
    matches = subset_matches(truth, detections)
    assert [index for index, name in enumerate(OCCLUSIONS) if not math.isnan(matches[name].summary()["AP"])] == levels


def test_occlusion_by_visible_fractions() -> None:
    for frames, fractions, expected in (
        (4, [1, 0.5, 0.2, 0.4], 0.7),
        (3, [0.9, 1, 0.4, 0], 0.35),
        (1, [0, 0, 0, None], 1),
    ):
        truth, _ = read(*small_set([{"segmentations": masks(0, frames), "visible_fractions": fractions}], []))
        assert occlusion(truth.instances[0]) == pytest.approx(expected)
    labelled = {"segmentations": masks(0, 1), "visible_fractions": [1] * 4, "occlusion": ["severe_occlusion"] * 4}
    assert occlusion(read(*small_set([labelled], []))[0].instances[0]) == 0.75  # the labels come first


def test_track_length_counts_masks() -> None:
    empty = code(np.zeros((4, 20), bool))
    truth, _ = read(*small_set([{"segmentations": [*masks(0, 2)[:2], empty, None]}], []))
    assert track_length(truth.instances[0]) == 2


def test_all_is_what_match_gives() -> None:
    for seed in range(5):
        data = to_json(random_set(seed))
        found, expected = subset_matches(*read(*data))["all"], match(*data)
        for field in fields(Matches):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name), field.name)


def test_all_objects_in_one_subset_change_nothing() -> None:
    for seed in range(5):
        data = random_set(seed)
        gt, results = to_json(data)
        for record in gt["annotations"]:
            record["visible_fractions"] = [1] * len(record["segmentations"])
        matches = subset_matches(*read(gt, results))
        present = [length(truth.masks) > 0 for truth in data.truths]
        expected = {name: value for name, value in match(gt, results).summary().items() if name in STATISTICS}
        assert_same(matches["track length short"], expected)
        if present and all(present):
            assert_same(matches["occlusion light"], expected)
        assert math.isnan(matches["track length long"].summary()["AP"])


def test_resample_equals_evaluation_of_copies() -> None:
    rng = np.random.default_rng(0)
    for seed in range(6):
        data = random_set(seed)
        matches = subset_matches(*read(*to_json(data)), length_bounds=(1, 3))
        ids = matches[TRACK_LENGTHS[0]].video_ids
        weights = rng.permutation(len(ids)) + (len(ids) == 1)
        copies = with_copies(data, dict(zip(ids.tolist(), weights.tolist(), strict=True)))
        for name, expected in subset_matches(*read(*to_json(copies)), length_bounds=(1, 3)).items():
            assert matches[name].summary(weights) == pytest.approx(expected.summary(), abs=1e-14, nan_ok=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"occlusion": None}, r"ground truth: annotations\[0\].occlusion is null, expected a list"),
        ({"occlusion": ["no_occlusion"]}, r"annotations\[0\].occlusion has 1 entries, segmentations has 4"),
        (
            {"occlusion": ["no_occlusion", "half", None, None]},
            r'annotations\[0\].occlusion\[1\] is "half", expected no_',
        ),
        ({"occlusion": [0.5] * 4}, r"annotations\[0\].occlusion\[0\] is 0.5"),
        ({"visible_fractions": [1, 1, None, 1]}, r"annotations\[0\].visible_fractions\[2\] is null, expected a number"),
        ({"visible_fractions": [1, 1, 1, 1.5]}, r"annotations\[0\].visible_fractions\[3\] is 1.5"),
        ({"visible_fractions": [1, True, 1, 1]}, r"annotations\[0\].visible_fractions\[1\] is true"),
    ],
)
def test_malformed_occlusion_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        subset_matches(*read(*small_set([{"segmentations": masks(0, 4)} | fields], [])))


def test_occlusion_of_every_object_or_of_none() -> None:
    objects = [{"segmentations": masks(0, 4), "visible_fractions": [1] * 4}, {"segmentations": masks(1, 4)}]
    with pytest.raises(UserError, match=r"annotations\[1\].visible_fractions is missing"):
        subset_matches(*read(*small_set(objects, [])))
    crowd = [objects[0], objects[1] | {"iscrowd": 1}]
    assert tuple(subset_matches(*read(*small_set(crowd, [])))) == ("all", *TRACK_LENGTHS, *OCCLUSIONS)
    assert tuple(subset_matches(*read(*small_set(objects[1:], [])))) == ("all", *TRACK_LENGTHS)


@pytest.mark.parametrize("bounds", [(0, 5), (8, 8), (9, 4)])
def test_bounds_must_rise(bounds: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"length_bounds is {bounds[0]}, {bounds[1]}"):
        subset_matches(*read(*small_set([], [])), length_bounds=bounds)


def test_nothing_at_all() -> None:
    matches = subset_matches(GroundTruth({}, {}, []), [])
    assert all(math.isnan(value) for part in matches.values() for value in part.summary().values())


def test_statistics_by_area_are_refused() -> None:
    matches = subset_matches(*read(*small_set([], [])))[TRACK_LENGTHS[0]]
    with pytest.raises(AssertionError, match="APs"):
        matches.summaries(names=["APs"])
