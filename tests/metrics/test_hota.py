"""HOTA against TrackEval, the definition in plain loops, cases done by hand, properties, and published numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_scenes import perfect_scene, random_scenes
from tracking_sets import detection, identities, labelled, read, strip

from vislab.metrics.frame_overlap import Scene
from vislab.metrics.hota import ALPHAS, STATISTICS, HotaCounts, hota_instances, hota_scenes
from vislab.metrics.inputs import read_ground_truth, read_results


@pytest.fixture(scope="module")
def trackeval() -> ModuleType:
    return pytest.importorskip("trackeval", reason="TrackEval is not installed; pip install --no-deps trackeval==1.3.0")


def counts_of(scenes: list[Scene]) -> HotaCounts:
    return hota_scenes(scenes, np.arange(len(scenes)))


def as_sequence(scene: Scene) -> dict:
    """What TrackEval's data sets hand to its metrics: ids in a row, per frame only what is present."""
    sides = [present[:, present.any(0)] for present in (scene.truth_present, scene.found_present)]
    ious = scene.ious[:, scene.truth_present.any(0)][:, :, scene.found_present.any(0)]
    frames = list(zip(ious, *sides, strict=True))
    return {
        "num_timesteps": len(ious),
        "num_gt_ids": sides[0].shape[1],
        "num_tracker_ids": sides[1].shape[1],
        "num_gt_dets": int(sides[0].sum()),
        "num_tracker_dets": int(sides[1].sum()),
        "gt_ids": [np.flatnonzero(row) for row in sides[0]],
        "tracker_ids": [np.flatnonzero(row) for row in sides[1]],
        "similarity_scores": [np.ascontiguousarray(frame[truths][:, found]) for frame, truths, found in frames],
    }


@pytest.mark.parametrize("block", range(10))
def test_equals_trackeval(trackeval: ModuleType, block: int) -> None:
    metric = trackeval.metrics.HOTA()
    for seed in range(21 * block, 21 * block + 21):
        scenes = random_scenes(seed)
        sequences = {scene.video: metric.eval_sequence(as_sequence(scene)) for scene in scenes}
        expected = [*sequences.values(), metric.combine_sequences(sequences)]
        counts = counts_of(scenes)
        pooled, single = counts.summaries(), counts.per_video()
        empty = np.append(counts.objects + counts.detections, (counts.objects + counts.detections).sum()) == 0
        for name in STATISTICS:
            found = np.append(single[name], pooled[name])
            wanted = np.array([np.mean(values[name]) for values in expected])
            wanted[empty] = np.nan
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12, err_msg=f"{name}, seed {seed}")


def plain_hota(scene: Scene, pairs: list[tuple[int, int, int]]) -> dict[str, float]:
    """Luiten et al., section 3, over given pairs (frame, labelled track, detected track)."""
    sums = dict.fromkeys(("HOTA", "DetA", "AssA", "LocA"), 0.0)
    for alpha in ALPHAS:
        right = [pair for pair in pairs if scene.ious[pair] >= alpha - 1e-15]
        detection_errors = scene.truth_present.sum() + scene.found_present.sum() - 2 * len(right)
        det = len(right) / (len(right) + detection_errors)
        association = 0.0
        for _, m, n in right:
            together = sum(1 for other in right if other[1:] == (m, n))
            apart = scene.truth_present[:, m].sum() + scene.found_present[:, n].sum() - 2 * together
            association += together / (together + apart) / len(right)
        sums["DetA"] += det
        sums["AssA"] += association
        sums["HOTA"] += (det * association) ** 0.5
        sums["LocA"] += np.mean([scene.ious[pair] for pair in right]) if right else 1
    return {name: value / len(ALPHAS) for name, value in sums.items()}


def test_equals_the_definition_where_nothing_competes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        length, tracks = int(rng.integers(1, 8)), int(rng.integers(1, 5))
        ious, pairs = np.zeros((length, tracks, tracks)), []
        truth_present, found_present = rng.random((2, length, tracks)) < 0.8
        truth_present[0, 0] = True
        for frame in range(length):  # every object overlaps with one detection, in any frame another one
            for m, n in enumerate(rng.permutation(tracks)):
                if truth_present[frame, m] and found_present[frame, n]:
                    ious[frame, m, n] = rng.uniform(0.01, 1)
                    pairs.append((frame, m, int(n)))
        scene = Scene(0, ious, truth_present, found_present)
        summary = counts_of([scene]).summaries()
        for name, value in plain_hota(scene, pairs).items():
            assert float(summary[name][0]) == pytest.approx(value, abs=1e-12), name


def test_by_hand() -> None:
    """One object of four frames, IoU 1 with one track in the first three and with another in the last."""
    ious = np.array([[[1, 0]], [[1, 0]], [[1, 0]], [[0, 1]]], np.float64)
    scene = Scene(0, ious, np.ones((4, 1), bool), ious[:, 0] > 0)
    summary = {name: float(value[0]) for name, value in counts_of([scene]).summaries().items()}
    association = (3 * 3 / 4 + 1 / 4) / 4
    assert summary["DetA"] == summary["DetRe"] == summary["DetPr"] == summary["LocA"] == summary["AssPr"] == 1
    assert summary["AssA"] == pytest.approx(association, abs=1e-15) == summary["AssRe"]
    assert summary["HOTA"] == pytest.approx(association**0.5, abs=1e-15) == summary["HOTA(0)"]


def test_the_partner_over_the_whole_video_wins_a_frame() -> None:
    """In the second frame another track fits a bit better, but it is elsewhere in all others."""
    ious = np.array([[[0.9, 0]], [[0.6, 0.7]], [[0.9, 0]]])
    scene = Scene(0, ious, np.ones((3, 1), bool), np.ones((3, 2), bool))
    assert counts_of([scene]).iou_sums[0, 0] == pytest.approx(0.9 + 0.6 + 0.9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_perfect_detections(seed: int) -> None:
    scenes = [perfect_scene(scene) for scene in random_scenes(seed)]
    counts = counts_of(scenes)
    expected = 1 if counts.objects.sum() else np.nan
    for value in counts.summaries().values():
        assert float(value[0]) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_bounds_and_order_without_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes, shuffled = random_scenes(seed, ties=False), []
    for scene in scenes:
        rows, columns = (rng.permutation(n) for n in scene.ious.shape[1:])
        sides = scene.truth_present[:, rows], scene.found_present[:, columns]
        shuffled.append(Scene(scene.video, scene.ious[:, rows][:, :, columns], *sides))
    first, second = counts_of(scenes).per_video(), counts_of(shuffled).per_video()
    for name in STATISTICS:
        np.testing.assert_allclose(second[name], first[name], rtol=1e-13, atol=0)
        defined = first[name][~np.isnan(first[name])]
        assert (defined >= 0).all() and (defined <= 1 + 1e-15).all()


def test_resampling_equals_copies() -> None:
    rng = np.random.default_rng(0)
    for seed in range(30):
        scenes = random_scenes(seed)
        weights = rng.integers(0, 4, (5, len(scenes)))
        found = counts_of(scenes).summaries(weights, ["HOTA", "LocA"])
        assert list(found) == ["HOTA", "LocA"]
        for row, copies in enumerate(weights):
            copied = [s for s, n in zip(scenes, copies, strict=True) for _ in range(n)]
            copied = [Scene(i, s.ious, s.truth_present, s.found_present) for i, s in enumerate(copied)]
            expected = counts_of(copied).summaries()
            for name in found:
                np.testing.assert_allclose(found[name][row], expected[name][0], rtol=1e-13)


def test_nothing_found_and_nothing_there() -> None:
    truth, found = read([labelled(strip(0, 8))], [detection(strip(0, 8))])
    without = hota_instances(truth, []), hota_instances(read([], [])[0], found)
    for counts in without:
        summary = {name: float(value[0]) for name, value in counts.summaries().items()}
        assert summary == dict.fromkeys(STATISTICS, 0.0) | {"LocA": 1.0}
    assert all(np.isnan(value[0]) for value in hota_instances(read([], [])[0], []).summaries().values())
    no_videos = hota_scenes([], np.zeros(0, np.int64))
    assert np.isnan(no_videos.summaries()["HOTA"][0]) and no_videos.per_video()["HOTA"].shape == (0,)


def test_sa_v_toy(real_data: Path) -> None:
    """Published with SAM 3 (facebookresearch/sam3, assets/veval/toy_gt_and_pred): each category a sequence."""
    folder = real_data / "metric-real" / "sam3-veval-toy"
    truth = read_ground_truth(json.loads((folder / "gt.json").read_text()))
    found = read_results(json.loads((folder / "pred.json").read_text()), truth)
    summary = hota_instances(truth, found, score_threshold=0, class_agnostic=False).summaries()
    published = json.loads((folder / "eval_res.json").read_text())["dataset_results"]
    assert float(summary["HOTA"][0]) == pytest.approx(0.4656079602771566, abs=1e-16)
    for name in STATISTICS[:-1]:
        assert float(summary[name][0]) == pytest.approx(published[f"video_mask_all_phrase_{name}"], abs=2e-16)


def test_mot_challenge(real_data: Path) -> None:
    """TUD-Campus and TUD-Stadtmitte; computed with TrackEval, not published."""
    scenes = [identities(real_data / "mot-real" / f"TUD-{name}", i) for i, name in enumerate(("Campus", "Stadtmitte"))]
    single = counts_of(scenes).per_video()
    expected = {"HOTA": [0.391397, 0.397849], "DetA": [0.418047, 0.392268], "AssA": [0.369121, 0.408841]}
    expected |= {"LocA": [0.770052, 0.737521]}
    for name, values in expected.items():
        assert single[name].tolist() == pytest.approx(values, abs=1e-6)
