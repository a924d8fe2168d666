"""Video AP against a second, slow implementation, COCOeval, and published numbers."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_sets import SIDE, code, random_set, to_json
from slow_evaluator import DenseSet, DenseTrack, average
from slow_evaluator import summary as slow_summary

from vislab.errors import UserError
from vislab.metrics import STATISTICS, match
from vislab.metrics.inputs import GroundTruth
from vislab.metrics.video_ap import assign, match_instances


def assert_same(found: dict[str, float], expected: dict[str, float], tolerance: float = 1e-12) -> None:
    assert list(found) == list(STATISTICS)
    for name, value in expected.items():
        assert (math.isnan(found[name]) and math.isnan(value)) or abs(found[name] - value) <= tolerance, (
            f"{name}: {found[name]!r}, expected {value!r}"
        )


@pytest.mark.parametrize("block", range(20))
def test_equals_slow_evaluator(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        data = random_set(seed)
        assert_same(match(*to_json(data)).summary(), slow_summary(data))


def test_more_than_hundred_detections_of_a_category() -> None:
    data = random_set(3)
    detection = next(track for track in data.detections)
    others = [DenseTrack(detection.video, detection.category, [None], score=0.8) for _ in range(101)]
    data.detections = [*others, *data.detections]
    assert_same(match(*to_json(data)).summary(), slow_summary(data))


def stacked(masks: list[np.ndarray | None]) -> dict:
    """The frames of a track one above the other, as one mask; COCO has no null."""
    return code(np.concatenate([np.zeros((SIDE, SIDE), bool) if mask is None else mask for mask in masks]))


def padded(data: DenseSet) -> DenseSet:
    """All tracks of a video as long as the longest, with empty masks: where the rules for them differ from COCO's."""
    tracks = [*data.truths, *data.detections]
    for track in tracks:
        length = max(len(other.masks) for other in tracks if other.video == track.video)
        track.masks += [None] * (length - len(track.masks))
        track.areas += [None] * (length - len(track.areas))
    return data


def coco_summary(data: DenseSet, bounds: Sequence[float]) -> dict[str, float]:
    """COCOeval on stacked frames, with the areas of YouTube-VIS; bounds: of medium and of large ones, pixels."""
    images = {video: index + 1 for index, video in enumerate(sorted(data.videos))}
    truth, results = COCO(), []
    truth.dataset = {
        "info": {},
        "images": [{"id": images[video], "height": SIDE, "width": SIDE} for video in data.videos],
        "categories": [{"id": category + 1, "name": str(category)} for category in data.categories],
        "annotations": [
            {"id": i + 1, "image_id": images[t.video], "category_id": t.category + 1, "iscrowd": 0}
            | {"area": average(t.areas), "segmentation": stacked(t.masks)}
            for i, t in enumerate(data.truths)
        ],
    }
    for track in data.detections:
        results.append({"image_id": images[track.video], "category_id": track.category + 1, "score": track.score})
        results[-1]["segmentation"] = stacked(track.masks)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(results)
        for record, track in zip(found.dataset["annotations"], data.detections, strict=True):
            record["area"] = track.mask_area  # of a frame, not of the stack
        evaluation = COCOeval(truth, found, "segm")
        medium, large = bounds
        evaluation.params.areaRng = [[0, 1e10], [0, medium], [medium, large], [large, 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {n: float("nan") if v == -1 else float(v) for n, v in zip(STATISTICS, evaluation.stats, strict=True)}


@pytest.mark.parametrize("block", range(10))
def test_equals_cocoeval_on_stacked_frames(block: int) -> None:
    """Where the rules agree: no crowds, tracks of equal length. 240 sets, of which more than 200 have detections."""
    compared = 0
    for seed in range(1000 + 24 * block, 1024 + 24 * block):
        data = padded(random_set(seed, one_frame=seed % 4 == 0, crowds=False))
        if data.detections:  # COCO cannot load empty results
            assert_same(match(*to_json(data)).summary(), coco_summary(data, (128**2, 256**2)))
            compared += 1
    assert compared > 20


def test_areas_of_images_equal_cocoeval_as_it_is() -> None:
    defaults = COCOeval(iouType="segm").params.areaRng
    compared = 0
    for seed in range(2000, 2024):
        data = random_set(seed, one_frame=True, crowds=False)
        if data.detections:
            found = match(*to_json(data), areas="image").summary()
            assert_same(found, coco_summary(data, (defaults[2][0], defaults[2][1])))
            compared += not math.isnan(found["APm"])
    assert compared > 5


def test_ground_truth_as_results_is_perfect() -> None:
    for seed in range(8):
        data = random_set(seed, crowds=False)
        data.truths = [track for track in data.truths if track.mask_area]
        data.detections = data.truths
        summary = match(*to_json(data)).summary()
        perfect = [summary[name] for name in ("AP", "AP50", "AP75", "AR100")]
        expected = 1 if data.truths else math.nan
        assert perfect == pytest.approx([expected] * 4, abs=1e-15, nan_ok=True)


def test_input_order_does_not_matter_without_ties() -> None:
    rng = np.random.default_rng(0)
    for seed in range(10):
        data = random_set(seed)
        for track, score in zip(data.detections, rng.permutation(len(data.detections)), strict=True):
            track.score = float(score)
        before = match(*to_json(data)).summary()
        for name in ("videos", "categories", "truths", "detections"):
            values = getattr(data, name)
            setattr(data, name, [values[i] for i in rng.permutation(len(values))])
        assert_same(match(*to_json(data)).summary(), before, tolerance=0)


def strip(first: int, last: int) -> np.ndarray:
    """Columns first..last-1 of a small image."""
    mask = np.zeros((4, 20), bool)
    mask[:, first:last] = True
    return mask


def small_set(truths: list[dict], detections: list[dict]) -> tuple[dict, list[dict]]:
    common = {"video_id": 0, "category_id": 0}
    gt = {
        "videos": [{"id": 0, "height": 4, "width": 20}],
        "categories": [{"id": 0, "name": "thing"}, {"id": 5, "name": "never seen"}],
        "annotations": [common | {"areas": [40.0] * len(truth["segmentations"])} | truth for truth in truths],
    }
    return gt, [common | detection for detection in detections]


def test_ids_of_zero_are_matched_once() -> None:
    truth = {"id": 0, "segmentations": [code(strip(0, 10))]}
    twice = [{"score": score, "segmentations": [code(strip(0, 10))]} for score in (0.9, 0.8)]
    matches = match(*small_set([truth], twice))
    assert matches.matched[0, 0].tolist() == [True, False]


def test_crowd_takes_any_number_with_normal_iou() -> None:
    crowd = {"iscrowd": 1, "segmentations": [code(strip(0, 10))]}
    plain = {"segmentations": [code(strip(12, 14))]}
    inside, equal = {"segmentations": [code(strip(0, 4))]}, {"segmentations": [code(strip(0, 10))]}
    scored = [d | {"score": s} for d, s in ((equal, 0.9), (equal, 0.8), (inside, 0.7))]
    matches = match(*small_set([crowd, plain], scored))
    assert matches.ignored[0, 0].tolist() == [True, True, False]  # 40 % of the crowd: COCO would ignore it, too
    assert matches.matched[0, 0].tolist() == [True, True, False]


def test_of_equal_overlaps_the_last_is_taken() -> None:
    left, right = ({"segmentations": [code(strip(*ends))]} for ends in ((0, 8), (4, 12)))
    middle, exact = strip(2, 10), strip(4, 12)
    detections = [{"score": s, "segmentations": [code(m)]} for s, m in ((0.9, middle), (0.8, exact))]
    assert match(*small_set([left, right], detections)).matched[0, 0].tolist() == [True, False]
    assert match(*small_set([right, left], detections)).matched[0, 0].tolist() == [True, True]


def test_assign_names_the_partners() -> None:
    overlaps = np.array([[0.8, 0.9, 0.6], [0.7, 0.9, 0.6], [0.2, 0.7, 0.6], [0.1, 0.4, 0.6]])
    crowd, ignored = np.array([False, False, True]), np.array([[False, False, True], [False, True, True]])
    partner, aside = assign(overlaps, crowd, ignored, np.array([0.5, 0.75]))
    assert partner.tolist() == [[[1, 0, 2, 2], [1, -1, -1, -1]], [[0, 1, 2, 2], [0, 1, -1, -1]]]
    assert aside.tolist() == [
        [[False, False, True, True], [False] * 4],
        [[False, True, True, True], [False, True, False, False]],
    ]


def test_category_without_ground_truth_is_undefined() -> None:
    matches = match(*small_set([{"segmentations": [code(strip(0, 10))]}], []))
    assert matches.summary()["AP"] == 0
    table = matches.category_summaries()["AP"]
    assert table[0, 0] == 0 and math.isnan(table[0, 1])


def test_nothing_at_all() -> None:
    for matches in (match(*small_set([], [])), match_instances(GroundTruth({}, {}, []), [])):
        summary = matches.summary()
        assert list(summary) == list(STATISTICS) and all(math.isnan(value) for value in summary.values())


def test_malformed_input_is_refused() -> None:
    gt, results = small_set([], [{"score": 0.5, "segmentations": [code(strip(0, 4)) | {"size": [20, 4]}]}])
    with pytest.raises(UserError, match=r"results: \[0\].segmentations\[0\]: size is \[20, 4\]"):
        match(gt, results)


def test_sa_v_toy(real_data: Path) -> None:
    """Published with SAM 3 (facebookresearch/sam3, assets/veval/toy_gt_and_pred): one video of 146 frames."""
    folder = real_data / "metric-real" / "sam3-veval-toy"
    matches = match(json.loads((folder / "gt.json").read_text()), json.loads((folder / "pred.json").read_text()))
    summary = matches.summary()
    assert summary["AP"] == pytest.approx(0.34191419141914187, abs=1e-16)
    expected = {"AP50": 0.5664780763790664, "AP75": 0.37057991513437055, "AR1": 0.18214285714285713, "AR10": 0.375}
    assert {name: summary[name] for name in expected} == pytest.approx(expected, abs=1e-15)
    by_category = dict(zip(matches.category_ids.tolist(), matches.category_summaries()["AP"][0], strict=True))
    assert by_category.pop(50554) != by_category.get(50554)  # NaN: no ground truth, no prediction
    expected = {847: 0.293729, 1390: 0.8, 1985: 0.411221, 3802: 0.219142, 3827: 0.669307, 49272: 0, 49504: 0}
    assert by_category == pytest.approx(expected, abs=1e-6)


def test_coco_fake100(real_data: Path) -> None:
    """COCO's own fake results, each image as a video of one frame; its area ranges do not apply.

    Published in cocodataset/cocoapi, results/; digits from MiXaiLL76/faster_coco_eval, tests. No detection there lies
    on a crowd, so that the two crowd rules agree.
    """
    folder = real_data / "metric-real" / "coco-fake100"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    gt = {
        "videos": [{"length": 1} | {key: image[key] for key in ("id", "height", "width")} for image in truth["images"]],
        "categories": truth["categories"],
        "annotations": [as_video(record) | {"areas": [record["area"]]} for record in truth["annotations"]],
    }
    summary = match(gt, [as_video(record) for record in results]).summary()
    expected = {"AP": 0.3195452758576433, "AP50": 0.5622883972521636, "AP75": 0.29892653412086784}
    expected |= {"AR1": 0.2682297225711534, "AR10": 0.41544868114906375, "AR100": 0.4168394992198818}
    assert {name: summary[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def as_video(record: dict) -> dict:
    kept = {key: record[key] for key in ("category_id", "score", "iscrowd") if key in record}
    return kept | {"video_id": record["image_id"], "segmentations": [record["segmentation"]]}
