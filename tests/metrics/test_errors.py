"""The error breakdown on cases done by hand, against plain loops, and its properties."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from random_sets import SIDE, random_set, shaken, to_json, with_copies
from slow_evaluator import DenseSet, DenseTrack, track_iou

from vislab.metrics import bootstrap, match, paired_difference
from vislab.metrics.errors import ERROR_TYPES, ORACLES, ErrorBreakdown, error_breakdown, temporal_overlap
from vislab.metrics.inputs import GroundTruth, read_ground_truth, read_results


def breakdown(data: DenseSet, threshold: float = 0.5) -> ErrorBreakdown:
    gt, results = to_json(data)
    truth = read_ground_truth(gt, any_length=True)
    return error_breakdown(truth, read_results(results, truth, any_length=True), threshold)


def changes(data: DenseSet) -> dict[str, float]:
    return {name: float(values[0]) for name, values in breakdown(data).summaries().items()}


# ---------------------------------------------------------------------------------------------------------------------
# One of each, by hand. Objects are strips of an image one row high; the numbers are the columns of each frame.


def strips(*columns: tuple[int, int] | None) -> list[np.ndarray | None]:
    masks: list[np.ndarray | None] = []
    for ends in columns:
        mask = np.zeros((SIDE, SIDE), bool)
        if ends is not None:
            mask[0, ends[0] : ends[1]] = True
        masks.append(None if ends is None else mask)
    return masks


def scene(found: Sequence[tuple[float, int, list]], *, crowds: Sequence[list] = ()) -> DenseSet:
    """Two objects of category 1, in columns 0-9 and 20-29, and one of category 2, in 40-49, over ten frames."""
    truths = [DenseTrack(7, 1, FIRST), DenseTrack(7, 1, SECOND), DenseTrack(7, 2, THIRD)]
    truths += [DenseTrack(7, 1, masks, crowd=True) for masks in crowds]
    for truth in truths:
        truth.areas = [None if mask is None else float(mask.sum()) for mask in truth.masks]
    return DenseSet([7], [1, 2], truths, [DenseTrack(7, category, masks, score) for score, category, masks in found])


FIRST, SECOND, THIRD = (strips(*[ends] * 10) for ends in ((0, 10), (20, 30), (40, 50)))
ALL = [(0.9, 1, FIRST), (0.8, 1, SECOND), (0.7, 2, THIRD)]
HALF = 51 / 101  # AP of a category with one of two objects found: recall 0, .01, ..., .5
POOR = strips(*[(20, 24)] * 10)  # IoU 0.4 in every frame: spatial
SWITCHED = strips(*[(20, 30)] * 6, *[(0, 10)] * 4)  # IoU 60 / 140 with the second object; temporal overlap 0.6
SHORT = strips(*[(20, 30)] * 4, *[None] * 6)  # IoU 0.4, temporal overlap 0.4
NOWHERE = strips(*[(80, 90)] * 10)
CASES = {
    # error: detections, AP50 as they are, AP50 with that error fixed, other oracles that change something
    "classification": ([ALL[0], (0.95, 2, SECOND), ALL[2]], (HALF + 0.5) / 2, 1, ("false positive", "false negative")),
    "spatial": ([ALL[0], (0.5, 1, POOR), ALL[2]], (HALF + 1) / 2, 1, ("false negative",)),
    "temporal": ([ALL[0], (0.5, 1, SWITCHED), ALL[2]], (HALF + 1) / 2, 1, ("false negative",)),
    "both": ([(0.95, 2, POOR), *ALL], (1 + 0.5) / 2, 1, ("false positive",)),
    "duplicate": ([ALL[0], (0.85, 1, FIRST), *ALL[1:]], (51 + 50 * 2 / 3) / 101 / 2 + 0.5, 1, ("false positive",)),
    "background": ([(0.95, 1, NOWHERE), *ALL], (51 * 2 / 3 + 50 * 2 / 3) / 101 / 2 + 0.5, 1, ("false positive",)),
    "miss": ([ALL[0], ALL[2]], (HALF + 1) / 2, 1, ("false negative",)),
}


@pytest.mark.parametrize("name", CASES)
def test_one_error_of_each_type(name: str) -> None:
    detections, before, after, others = CASES[name]
    data = scene(detections)
    found = breakdown(data)
    assert {kind: count for kind, count in found.counts.items() if count and kind in ERROR_TYPES} == {name: 1}
    assert found.matches.summary()["AP"] == pytest.approx(before, abs=1e-14)
    assert found.fixed(name).summary()["AP"] == pytest.approx(after, abs=1e-14)
    difference = changes(data)
    assert difference[name] == pytest.approx(after - before, abs=1e-14)
    assert {kind for kind, value in difference.items() if abs(value) > 1e-12} == {name, *others}


def test_special_errors_by_hand() -> None:
    data = scene([(0.95, 1, NOWHERE), ALL[0], (0.6, 2, NOWHERE)])
    found = breakdown(data)
    assert found.counts["false positive"] == 2 and found.counts["false negative"] == 2
    assert found.matches.summary()["AP"] == pytest.approx(HALF / 2 / 2)
    assert found.fixed("false positive").summary()["AP"] == pytest.approx(HALF / 2)
    # Category 2 has no object left, and leaves the mean.
    assert found.fixed("false negative").summary()["AP"] == pytest.approx(1 / 2)
    assert found.fixed("false positive", "false negative").summary()["AP"] == pytest.approx(1)


def test_best_scored_error_gains_the_object() -> None:
    """Of all kinds together: the spatial errors are removed, for a classification error scores better."""
    detections = [ALL[0], (0.85, 2, SECOND), (0.3, 1, POOR), (0.2, 1, SHORT), (0.1, 1, strips(*[(20, 24)] * 10))]
    found = breakdown(scene([*detections, ALL[2]]))
    kinds = [ERROR_TYPES[kind] for kind in found.error[found.error >= 0]]
    assert kinds == ["classification", "spatial", "temporal", "spatial"]
    assert found.fixed_to.tolist() == [-1, 1, -1, -1, -1, -1]
    assert found.counts["miss"] == 0 and found.counts["false negative"] == 1
    assert found.fixed("spatial").matched.sum() == found.matches.matched.sum()
    assert found.fixed("spatial", "temporal").ignored.sum() == 3
    fixed = found.fixed("classification")
    assert fixed.detection_category[fixed.matched[0, 0]].tolist() == [0, 0, 1]


def test_errors_at_an_object_that_is_found_are_removed() -> None:
    """Even if they are better scored than the detection that finds it."""
    data = scene([(0.99, 2, FIRST), (0.98, 1, strips(*[(0, 4)] * 10)), *ALL])
    found = breakdown(data)
    assert found.counts["classification"] == found.counts["spatial"] == 1 and found.counts["miss"] == 0
    assert (found.fixed_to == -1).all()
    assert found.fixed("classification", "spatial").summary()["AP"] == pytest.approx(1)


def test_first_test_that_applies_names_the_error() -> None:
    """Localisation before classification before duplicate, as in TIDE."""
    wide = strips(*[(20, 30)] * 5, *[(40, 50)] * 5)  # IoU 1/3 with the second and with the third
    found = breakdown(scene([*ALL, (0.2, 1, wide), (0.1, 1, FIRST)]))
    assert [ERROR_TYPES[kind] for kind in found.error[3:]] == ["temporal", "duplicate"]
    twins = scene([(0.9, 1, FIRST), (0.8, 1, FIRST)])
    twins.truths.append(DenseTrack(7, 2, FIRST, areas=[10.0] * 10))
    assert breakdown(twins).counts["classification"] == 1  # a duplicate, too


def test_thresholds_belong_to_the_upper_side() -> None:
    tenth = strips(*[(29, 30)] * 10)  # IoU 0.1 exactly
    half = strips(*[(20, 25)] * 10)  # IoU 0.5 exactly
    kinds = [breakdown(scene([(0.5, category, m)])).error[0] for m in (tenth, half) for category in (1, 2)]
    assert [ERROR_TYPES[kind] if kind >= 0 else None for kind in kinds] == ["temporal", "both", None, "classification"]
    strict = breakdown(scene([(0.5, 1, half)]), threshold=0.75)
    assert strict.counts["spatial"] == 1 and strict.matches.summary()["AP"] == 0


@pytest.mark.parametrize(
    ("detection", "truth", "expected"),
    [
        ([(0, 10)] * 4, [(0, 10)] * 4, 1),
        ([(0, 10), (0, 10), None, (50, 60)], [(0, 10)] * 4, 0.5),
        ([(0, 10), None, None, (0, 10)], [(0, 10), None, (5, 9), None], 1 / 3),  # absent in both counts for nothing
        ([(0, 1), (0, 2)], [(0, 10)] * 2, 0.5),  # an IoU of 0.1 is not above 0.1
        ([(0, 10)] * 2, [(0, 10)] * 5, 1),  # over the shorter list
        ([None, None], [None, None], 0),
    ],
)
def test_temporal_overlap(detection: list, truth: list, expected: float) -> None:
    data = DenseSet([1], [1], [DenseTrack(1, 1, strips(*truth))], [DenseTrack(1, 1, strips(*detection))])
    data.truths[0].areas = [None if ends is None else 10.0 for ends in truth]
    gt, results = to_json(data)
    labelled = read_ground_truth(gt, any_length=True)
    found = read_results(results, labelled, any_length=True)
    assert temporal_overlap(found[0], labelled.instances[0]) == pytest.approx(expected)


def test_an_overlap_of_exactly_seven_tenths_is_spatial() -> None:
    for frames, kind in ((7, "spatial"), (6, "temporal")):
        detection = strips(*[(20, 26)] * frames, *[None] * (10 - frames))
        assert breakdown(scene([(0.5, 1, detection)])).counts[kind] == 1


def test_crowds_neither_have_nor_cause_errors() -> None:
    crowd = strips(*[(100, 110)] * 10)
    inside, wrong = (0.99, 1, strips(*[(100, 108)] * 10)), (0.97, 2, crowd)
    found = breakdown(scene([inside, wrong, (0.98, 1, strips(*[(100, 104)] * 10)), *ALL], crowds=[crowd]))
    assert found.counts["background"] == 2 == found.counts["false positive"]
    assert found.counts["miss"] == found.counts["false negative"] == 0


def test_nothing_found_or_nothing_there() -> None:
    missed = breakdown(scene([]))
    assert missed.counts == dict.fromkeys(ORACLES, 0) | {"miss": 3, "false negative": 3}
    values = missed.summaries()
    assert math.isnan(values["miss"][0]) and values["background"][0] == 0  # no object is left
    empty = scene([(0.5, 1, NOWHERE)])
    empty.truths = []
    assert breakdown(empty).counts["background"] == 1
    assert all(math.isnan(value) for value in changes(empty).values())
    assert error_breakdown(GroundTruth({}, {}, []), []).counts == dict.fromkeys(ORACLES, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Random sets, with errors of every kind.


def confused_set(seed: int, *, crowds: bool = True) -> DenseSet:
    """Of `random_set`, with wrong categories, identity switches, cut tracks and near misses; no scores alike."""
    rng = np.random.default_rng([seed, 1])
    data = random_set(seed, crowds=crowds)
    data.truths = [replace(truth) for truth in data.truths]  # twins become two objects
    for truth in list(data.truths):
        rivals = [other for other in data.truths if other.video == truth.video]
        for _ in range(rng.integers(0, 3)):
            kind = rng.choice(["category", "switch", "cut", "shift"])
            masks = [None if mask is None else shaken(mask, rng) for mask in truth.masks]
            cut = rng.integers(0, len(masks) + 1)
            if kind == "switch":
                masks[cut:] = rivals[rng.integers(len(rivals))].masks[cut : len(masks)]
            elif kind == "cut":
                masks[cut:] = [None] * (len(masks) - cut)
            elif kind == "shift":
                masks = [None if m is None else np.roll(m, rng.integers(-60, 61, 2), (0, 1)) for m in masks]
            category = int(rng.choice(data.categories)) if rng.random() < 0.3 or kind == "category" else truth.category
            data.detections.append(DenseTrack(truth.video, category, masks))
    for detection, score in zip(data.detections, rng.permutation(len(data.detections)), strict=True):
        detection.score = float(score + 1)
    return data


@dataclass
class Verdict:
    """A detection, and what plain loops make of it."""

    track: DenseTrack
    kind: str  # "right", "ignored" or an error
    object: DenseTrack | None = None  # that it would find


def slow_overlap(a: DenseTrack, b: DenseTrack) -> float:
    good = present = 0
    for one, other in zip(a.masks, b.masks, strict=False):
        if any(mask is not None and mask.any() for mask in (one, other)):
            present += 1
            good += track_iou([one], [other]) > 0.1
    return good / present


def slow_verdicts(data: DenseSet, threshold: float) -> tuple[list[Verdict], list[DenseTrack]]:
    """Of every detection; and the objects that are found."""
    verdicts, found = [], []
    for video in sorted(data.videos):
        for category in sorted(data.categories):
            free = [t for t in data.truths if (t.video, t.category) == (video, category)]
            ranked = sorted((d for d in data.detections if (d.video, d.category) == (video, category)), key=minus_score)
            for detection in ranked[:100]:
                fits = [truth for truth in free if track_iou(detection.masks, truth.masks) >= threshold]
                proper = [truth for truth in fits if not truth.crowd]
                if proper:
                    best = max(reversed(proper), key=lambda truth: track_iou(detection.masks, truth.masks))
                    free = [truth for truth in free if truth is not best]
                    found.append(best)
                    verdicts.append(Verdict(detection, "right"))
                else:
                    verdicts.append(Verdict(detection, "ignored" if fits else "wrong"))
    for verdict in verdicts:
        if verdict.kind == "wrong":
            name_error(verdict, data, found, threshold)
    return verdicts, found


def minus_score(detection: DenseTrack) -> float:
    return -detection.score


def name_error(verdict: Verdict, data: DenseSet, found: list[DenseTrack], threshold: float) -> None:
    own, other = [], []
    for truth in data.truths:
        if truth.video == verdict.track.video and not truth.crowd:
            entry = (track_iou(verdict.track.masks, truth.masks), not any(truth is one for one in found), truth)
            (own if truth.category == verdict.track.category else other).append(entry)
    best_own = max(own, key=lambda entry: entry[:2], default=(0.0, False, None))
    best_other = max(other, key=lambda entry: entry[:2], default=(0.0, False, None))
    if 0.1 <= best_own[0] < threshold:
        verdict.kind = "spatial" if slow_overlap(verdict.track, best_own[2]) >= 0.7 else "temporal"
        verdict.object = best_own[2]
    elif best_other[0] >= threshold:
        verdict.kind, verdict.object = "classification", best_other[2]
    elif best_own[0] >= threshold:
        verdict.kind = "duplicate"
    else:
        verdict.kind = "both" if best_other[0] >= 0.1 else "background"


def slow_fixed(data: DenseSet, verdicts: list[Verdict], found: list[DenseTrack], names: Collection[str]) -> float:
    """AP with the named errors fixed."""
    winners: list[Verdict] = []
    for truth in data.truths:
        due = [v for v in verdicts if v.object is truth]
        if due and not any(truth is one for one in found):
            winners.append(max(due, key=lambda verdict: verdict.track.score))
    reachable = [verdict.object for verdict in winners]
    entries = []  # category, score, right
    for verdict in verdicts:
        repaired = verdict.kind in names
        if repaired and any(verdict is one for one in winners):
            entries.append((verdict.object.category, verdict.track.score, True))
        elif not repaired and verdict.kind != "ignored" and ("false positive" not in names or verdict.kind == "right"):
            entries.append((verdict.track.category, verdict.track.score, verdict.kind == "right"))
    values = []
    for category in data.categories:
        left = 0
        for truth in data.truths:
            negative = not any(truth is one for one in found)
            miss = negative and not any(truth is one for one in reachable)
            gone = ("miss" in names and miss) or ("false negative" in names and negative)
            left += truth.category == category and not truth.crowd and not gone
        if left:
            ranked = sorted((entry for entry in entries if entry[0] == category), key=lambda entry: -entry[1])
            values.append(slow_average_precision([right for _, _, right in ranked], left))
    return sum(values) / len(values) if values else math.nan


def slow_average_precision(right: list[bool], total: int) -> float:
    precision = [sum(right[: n + 1]) / (n + 1) for n in range(len(right))]
    recall = [sum(right[: n + 1]) / total for n in range(len(right))]
    points = [[p for p, r in zip(precision, recall, strict=True) if r >= point] for point in np.linspace(0, 1, 101)]
    return sum(max(reached, default=0) for reached in points) / 101


SEEDS = range(40)


@functools.cache
def confused_breakdown(seed: int) -> ErrorBreakdown:
    return breakdown(confused_set(seed))


@pytest.mark.parametrize("block", range(4))
def test_equals_plain_loops(block: int) -> None:
    seen = set()
    for seed in range(10 * block, 10 * block + 10):
        data = confused_set(seed)
        threshold = 0.5 if seed % 3 else 0.75
        found = breakdown(data, threshold)
        verdicts, objects = slow_verdicts(data, threshold)
        kinds = [verdict.kind for verdict in verdicts]
        assert {name: kinds.count(name) for name in ERROR_TYPES[:-1]} == {n: found.counts[n] for n in ERROR_TYPES[:-1]}
        for names in [(), *((name,) for name in ORACLES), ("spatial", "classification"), ERROR_TYPES]:
            expected = slow_fixed(data, verdicts, objects, names)
            assert found.fixed(*names).summary()["AP"] == pytest.approx(expected, abs=1e-12, nan_ok=True), (seed, names)
        seen |= {name for name, count in found.counts.items() if count}
    assert seen == set(ORACLES)


def test_every_false_positive_has_one_type_and_fixing_all_is_perfect() -> None:
    defined = 0
    for seed in SEEDS:
        found = confused_breakdown(seed)
        hit, ignored = found.matches.matched[0, 0], found.matches.ignored[0, 0]
        np.testing.assert_array_equal(found.error >= 0, ~hit & ~ignored)
        assert sum(found.counts[name] for name in ERROR_TYPES[:-1]) == found.counts["false positive"]
        assert not (found.truth_found & found.truth_missed).any()
        gained = found.fixed_to[found.fixed_to >= 0]
        assert len(set(gained.tolist())) == len(gained) and not found.truth_found[gained].any()
        assert found.counts["miss"] + len(gained) == found.counts["false negative"]
        perfect = found.fixed(*ERROR_TYPES).summary()["AP"]
        assert math.isnan(perfect) or perfect == pytest.approx(1, abs=1e-14)
        defined += not math.isnan(perfect)
    assert defined > 25


def test_fixing_never_hurts() -> None:
    for seed in SEEDS:
        for values in confused_breakdown(seed).summaries().values():
            assert math.isnan(values[0]) or values[0] >= -1e-12


def test_unfixed_is_the_published_ap50() -> None:
    for seed in range(20):
        data = confused_set(seed) if seed % 2 else random_set(seed)  # with equal scores
        found = breakdown(data).matches.summary()["AP"]
        assert found == pytest.approx(match(*to_json(data)).summary()["AP50"], abs=0, nan_ok=True)


def test_input_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    for seed in range(12):
        data = confused_set(seed)
        before = confused_breakdown(seed)
        for name in ("videos", "categories", "truths", "detections"):
            values = getattr(data, name)
            setattr(data, name, [values[i] for i in rng.permutation(len(values))])
        after = breakdown(data)
        assert after.counts == before.counts
        for name, values in after.summaries().items():
            np.testing.assert_array_equal(values, before.summaries()[name])


def test_resample_equals_breakdown_of_copies() -> None:
    rng = np.random.default_rng(0)
    for seed in range(8):
        data = confused_set(seed)
        if seed % 2:  # ties everywhere
            for track in data.detections:
                track.score = float(rng.choice([0.3, 0.6]))
        found = breakdown(data)
        weights = rng.integers(0, 4, (3, len(found.video_ids)))
        weights[:, 0] += weights.sum(1) == 0
        resampled = found.summaries(weights)
        for row, multiplicities in enumerate(weights.tolist()):
            copies = with_copies(data, dict(zip(found.video_ids.tolist(), multiplicities, strict=True)))
            for name, value in changes(copies).items():
                assert resampled[name][row] == pytest.approx(value, abs=1e-13, nan_ok=True), (seed, name)


def test_bootstrap_and_paired_difference_take_it() -> None:
    found = confused_breakdown(8)
    estimate = bootstrap([found], "background", replicates=50)
    assert estimate.ci_low <= estimate.value <= estimate.ci_high
    assert paired_difference([found], [found], "temporal", replicates=50).difference == 0
    assert list(found.summaries(names=["miss", "both"])) == ["miss", "both"]


def test_sa_v_toy(real_data: Path) -> None:
    """Digits of TIVE itself (wenhe-jia/TIVE 0566d9a on tidecv 1.0.1), run on the same two files."""
    folder = real_data / "metric-real" / "sam3-veval-toy"
    truth = read_ground_truth(json.loads((folder / "gt.json").read_text()), any_length=True)
    results = json.loads((folder / "pred.json").read_text())
    found = error_breakdown(truth, read_results(results, truth, any_length=True))
    counts = {"temporal": 5, "background": 1, "miss": 16, "false positive": 6, "false negative": 19}
    assert found.counts == dict.fromkeys(ORACLES, 0) | counts
    expected = dict.fromkeys(ORACLES, 0.0) | {"temporal": 0.14780763790664786, "miss": 0.22659123055162658}
    expected |= {"false positive": 0.041725601131541765, "false negative": 0.33368694012258354}
    assert {name: values[0] for name, values in found.summaries().items()} == pytest.approx(expected, abs=1e-14)


def test_unknown_oracle_is_refused() -> None:
    with pytest.raises(AssertionError, match="localisation"):
        breakdown(scene([])).fixed("localisation")
