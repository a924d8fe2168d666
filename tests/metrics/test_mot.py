"""MOT consistency against motmetrics itself, cases done by hand, properties, and published numbers."""

from __future__ import annotations

from pathlib import Path

import motmetrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_scenes import perfect_scene, random_scenes
from tracking_sets import bdd100k_tracks, detection, identities, labelled, read, strip

from vislab.errors import UserError
from vislab.metrics.frame_overlap import Scene
from vislab.metrics.mot import STATISTICS, MotCounts, mot_instances, mot_scenes

NAMES = {
    "idf1": "IDF1",
    "idp": "IDP",
    "idr": "IDR",
    "mota": "MOTA",
    "motp": "MOTP",
    "num_switches": "IDs",
    "num_fragmentations": "Frag",
    "mostly_tracked": "MT",
    "partially_tracked": "PT",
    "mostly_lost": "ML",
    "num_false_positives": "FP",
    "num_misses": "FN",
}


def reference(scenes: list[Scene]) -> dict[str, np.ndarray]:
    """What motmetrics makes of scenes: per statistic the value of each one, then the pooled one."""
    accumulators = []
    for scene in scenes:
        accumulators.append(motmetrics.MOTAccumulator(auto_id=True))
        for ious, truths, found in zip(scene.ious, scene.truth_present, scene.found_present, strict=True):
            distances = np.where(ious >= 0.5, 1 - ious, np.nan)[truths][:, found]
            accumulators[-1].update(np.flatnonzero(truths), np.flatnonzero(found), distances)
    host = motmetrics.metrics.create()
    with motmetrics.lap.set_default_solver("scipy"):
        table = host.compute_many(accumulators, metrics=[*NAMES, "num_detections"], generate_overall=True)
    values = {ours: table[theirs].to_numpy(np.float64).copy() for theirs, ours in NAMES.items()}
    values["MOTA"][~np.isfinite(values["MOTA"])] = np.nan
    matches = table["num_detections"].to_numpy()
    if matches[-1]:  # NaN there as soon as one scene has no match
        values["MOTP"][-1] = np.nansum(values["MOTP"][:-1] * matches[:-1]) / matches[-1]
    values["MOTP"] = 1 - values["MOTP"]
    return values


def counts_of(scenes: list[Scene]) -> MotCounts:
    return mot_scenes(scenes, np.arange(len(scenes)))


@pytest.mark.parametrize("block", range(10))
def test_equals_motmetrics(block: int) -> None:
    for seed in range(21 * block, 21 * block + 21):
        scenes = random_scenes(seed)
        expected, counts = reference(scenes), counts_of(scenes)
        pooled, single = counts.summaries(), counts.per_video()
        for name in STATISTICS:
            found = np.append(single[name], pooled[name])
            np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-12, err_msg=f"{name}, seed {seed}")


def test_random_sets_reach_the_hard_cases() -> None:
    counts = [counts_of(random_scenes(seed)) for seed in range(210)]
    assert sum(int(c.switches.sum()) for c in counts) > 100
    assert sum(int(c.fragments.sum()) for c in counts) > 100
    empty_sides = [(c.objects == 0).any() or (c.detections == 0).any() for c in counts]
    assert 20 < sum(empty_sides) < 190


def scene_of(ious: list) -> Scene:
    """Everything present everywhere."""
    array = np.array(ious, np.float64)
    return Scene(0, array, np.ones(array.shape[:2], bool), np.ones((len(array), array.shape[2]), bool))


def test_by_hand() -> None:
    """One object, two detected tracks: 0 0 - 0 1 (none in the third frame), the last two at IoU 0.5 and 0.75."""
    scene = scene_of([[[1, 0.2]], [[1, 0.6]], [[0.4, 0.3]], [[0.5, 0.9]], [[0.2, 0.75]]])
    summary = {name: float(value[0]) for name, value in counts_of([scene]).summaries().items()}
    assert summary == {
        "IDF1": 6 / 15,
        "IDP": 3 / 10,
        "IDR": 3 / 5,
        "MOTA": 1 - (1 + 1 + 6) / 5,
        "MOTP": (1 + 1 + 0.5 + 0.75) / 4,
        "IDs": 1,
        "Frag": 1,
        "MT": 1,
        "PT": 0,
        "ML": 0,
        "FP": 6,
        "FN": 1,
    }


def test_a_partner_is_kept_across_an_absence_and_against_a_better_one() -> None:
    present = np.array([[True], [False], [True]])
    scene = Scene(0, np.array([[[0.6, 0.5]], [[0, 0]], [[0.5, 0.9]]]), present, np.ones((3, 2), bool))
    assert counts_of([scene]).iou_sums.tolist() == [1.1] and counts_of([scene]).switches.tolist() == [0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_perfect_detections(seed: int) -> None:
    scenes = [perfect_scene(scene) for scene in random_scenes(seed)]
    counts = counts_of(scenes)
    summary = {name: float(value[0]) for name, value in counts.summaries().items()}
    expected = 1 if counts.objects.sum() else np.nan
    for name in ("IDF1", "IDP", "IDR", "MOTA", "MOTP"):
        assert summary[name] == pytest.approx(expected, nan_ok=True)
    assert [summary[name] for name in ("IDs", "Frag", "PT", "ML", "FP", "FN")] == [0] * 6
    assert summary["MT"] == sum(scene.truth_present.any(0).sum() for scene in scenes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_order_of_tracks_does_not_matter_without_ties(seed: int) -> None:
    """Shared claims on one detection go to the first object, so that a scene has at most one object here."""
    rng = np.random.default_rng(seed)
    before, after = [], []
    for scene in random_scenes(seed, ties=False):
        order = rng.permutation(scene.found_present.shape[1])
        single = Scene(scene.video, scene.ious[:, :1], scene.truth_present[:, :1], scene.found_present)
        before.append(single)
        after.append(Scene(single.video, single.ious[..., order], single.truth_present, single.found_present[:, order]))
    first, second = counts_of(before).per_video(), counts_of(after).per_video()
    for name in STATISTICS:
        np.testing.assert_allclose(second[name], first[name], rtol=1e-15, atol=0)


def test_resampling_equals_copies() -> None:
    rng = np.random.default_rng(0)
    for seed in range(30):
        scenes = random_scenes(seed)
        weights = rng.integers(0, 4, (5, len(scenes)))
        found = counts_of(scenes).summaries(weights, ["IDF1", "MOTA", "MOTP", "IDs"])
        assert list(found) == ["IDF1", "MOTA", "MOTP", "IDs"]
        for row, copies in enumerate(weights):
            copied = [s for s, n in zip(scenes, copies, strict=True) for _ in range(n)]
            copied = [Scene(i, s.ious, s.truth_present, s.found_present) for i, s in enumerate(copied)]
            expected = counts_of(copied).summaries()
            for name in found:
                np.testing.assert_allclose(found[name][row], expected[name][0], rtol=1e-13)


def test_nothing_found_and_nothing_there() -> None:
    truth, found = read([labelled(strip(0, 8))], [detection(strip(0, 8))])
    nothing_found = mot_instances(truth, []).summaries()
    assert nothing_found["MOTA"] == 0 and nothing_found["IDR"] == 0 and np.isnan(nothing_found["IDP"])
    assert nothing_found["FN"] == 1 and nothing_found["ML"] == 1
    nothing_there = mot_instances(read([], [])[0], found).summaries()
    assert np.isnan(nothing_there["MOTA"]) and nothing_there["IDP"] == 0 and nothing_there["FP"] == 1
    neither = mot_instances(read([], [])[0], []).summaries()
    assert np.isnan(neither["IDF1"]) and neither["FP"] == 0
    no_videos = mot_scenes([], np.zeros(0, np.int64))
    assert np.isnan(no_videos.summaries()["MOTA"][0]) and no_videos.per_video()["MOTA"].shape == (0,)


def test_boxes_or_masks() -> None:
    """Two opposite quarters of a square: IoU 1 as boxes, 0.5 as masks; without one more pixel there is no match."""
    square, quarters = strip(0, 4), strip(0, 4)
    quarters[:2, :2] = quarters[2:, 2:] = False
    truth, found = read([labelled(square)], [detection(quarters)])
    assert mot_instances(truth, found).summaries()["MOTP"] == 1
    assert mot_instances(truth, found, overlap="mask").summaries()["MOTP"] == 0.5
    quarters[1, 2] = False
    less = read([labelled(square)], [detection(quarters)])
    assert mot_instances(*less).matches.tolist() == [1]
    assert mot_instances(*less, overlap="mask").matches.tolist() == [0]


def test_threshold_and_categories() -> None:
    mask = strip(0, 8)
    found_masks = [detection(mask, score=0.3, category=2), detection(strip(0, 7), score=0.29)]
    truth, found = read([labelled(mask)], found_masks)
    both = mot_instances(truth, found, score_threshold=0)
    assert both.detections.tolist() == [2] and both.matches.tolist() == [1]
    assert mot_instances(truth, found).detections.tolist() == [1]
    assert mot_instances(truth, found).matches.tolist() == [1]
    assert mot_instances(truth, found, class_agnostic=False).matches.tolist() == [0]
    assert mot_instances(truth, found, class_agnostic=False, score_threshold=0.2).matches.tolist() == [1]
    with pytest.raises(UserError, match="overlap is 'volume', expected one of box, mask"):
        mot_instances(truth, found, overlap="volume")  # type: ignore[arg-type]


def test_the_same_masks_under_several_categories_are_one_track() -> None:
    """Where categories do not count; their order changes nothing, and other masks stay another track."""
    mask, other = strip(0, 8), strip(10, 14)
    found = [
        detection(mask, mask, score=score, category=category) for category, score in ((1, 0.5), (2, 0.9), (3, 0.9))
    ]
    found.append(detection(mask, other, score=0.4))
    for order in (found, found[::-1]):
        truth, read_ones = read([labelled(mask, mask)], order)
        summary = mot_instances(truth, read_ones).summaries()
        assert {name: float(summary[name][0]) for name in ("IDs", "FP", "FN", "IDF1")} == {
            "IDs": 0, "FP": 2, "FN": 0, "IDF1": pytest.approx(2 * 2 / (2 + 4))
        }  # fmt: skip
        apart = mot_instances(truth, read_ones, class_agnostic=False)
        assert apart.detections.tolist() == [2 + 2 + 4], "each category by itself"


def test_bdd100k_segmentation_tracking(real_data: Path) -> None:
    """Published: scalabel/scalabel, eval/mots_test.py. Each class apart, pooled; one crowd."""
    truth, found = read(*bdd100k_tracks(real_data / "mot-real" / "bdd100k-segtrack"))
    summary = mot_instances(truth, found, overlap="mask", class_agnostic=False).summaries()
    fractions = {"MOTA": 64.30611079383209, "MOTP": 83.57249803157146, "IDF1": 74.51573849878935}
    for name, percent in fractions.items():
        assert 100 * float(summary[name][0]) == pytest.approx(percent, abs=1e-10)
    counts = {"FP": 201, "FN": 399, "IDs": 25, "MT": 56, "PT": 19, "ML": 11, "Frag": 42}
    assert {name: float(summary[name][0]) for name in counts} == counts


TUD = {  # py-motmetrics' README, computed by MOTChallenge's devkit; fractions recomputed with motmetrics 1.4.0
    "TUD-Campus": [13, 150, 7, 7, 1, 6, 1, 0.526462, 0.722799, 0.557659, 0.729730, 0.451253],
    "TUD-Stadtmitte": [45, 452, 7, 6, 5, 4, 1, 0.564014, 0.654096, 0.644619, 0.819760, 0.531142],
}
TUD_NAMES = ("FP", "FN", "IDs", "Frag", "MT", "PT", "ML", "MOTA", "MOTP", "IDF1", "IDP", "IDR")


def test_mot_challenge(real_data: Path) -> None:
    scenes = [identities(real_data / "mot-real" / name, video) for video, name in enumerate(TUD)]
    counts = counts_of(scenes)
    for video, expected in enumerate(TUD.values()):
        assert [counts.per_video()[name][video] for name in TUD_NAMES] == pytest.approx(expected, abs=1e-6)
    pooled = {"MOTA": 0.555116, "MOTP": 0.669823, "IDF1": 0.624296, "IDP": 0.799176, "IDR": 0.512211}
    assert {name: float(counts.summaries()[name][0]) for name in pooled} == pytest.approx(pooled, abs=1e-6)


def test_class_by_class_of_bdd100k(real_data: Path) -> None:
    """Output of scalabel, per class: FP, FN, switches, fragments."""
    gt, results = bdd100k_tracks(real_data / "mot-real" / "bdd100k-segtrack")
    expected = {"pedestrian": [51, 1, 0, 0], "rider": [24, 79, 2, 10], "car": [115, 188, 23, 25]}
    expected |= {"truck": [0, 48, 0, 2], "motorcycle": [2, 83, 0, 5], "bicycle": [9, 0, 0, 0]}
    for category, numbers in expected.items():
        wanted = [record["category_name"] == category for record in results]
        found = [record for record, take in zip(results, wanted, strict=True) if take]
        there = [record for record in gt if record["iscrowd"] or record["category_name"] == category]
        summary = mot_instances(*read(there, found), overlap="mask").summaries()
        assert [summary[name][0] for name in ("FP", "FN", "IDs", "Frag")] == numbers
