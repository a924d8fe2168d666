"""The table of numbers that a user sees."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from random_sets import random_set, to_json, with_copies

import vislab
from vislab.errors import UserError
from vislab.metrics import STATISTICS, bootstrap, evaluate, hota, match, mot
from vislab.metrics.errors import ORACLES, error_breakdown
from vislab.metrics.hota import hota_instances
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.mot import mot_instances
from vislab.metrics.subsets import TRACK_LENGTHS, subset_matches

EVERYTHING = ("ap", "mot", "hota", "errors")


@pytest.fixture(scope="module")
def data() -> tuple[dict, list[dict]]:
    """Lists as long as their videos."""
    gt, results = to_json(random_set(2, one_frame=True))
    for video in gt["videos"]:
        video["length"] = 1
    for record in gt["annotations"]:
        record["opacities"] = [1.0]
    return gt, results


@pytest.fixture(scope="module")
def videos() -> tuple[dict, list[dict]]:
    """Nine videos of several frames, with crowds and ties."""
    data = random_set(9)
    return to_json(with_copies(data, dict.fromkeys(data.videos, 3)))


def values(frame: pd.DataFrame, scope: str = "all") -> dict[str, float]:
    chosen = frame[frame["scope"] == scope]
    return dict(zip(chosen["metric"], chosen["value"], strict=True))


def test_values_and_columns(data: tuple[dict, list[dict]]) -> None:
    frame = evaluate(*data, replicates=50)
    assert list(frame.columns) == ["metric", "scope", "value", "ci_low", "ci_high", "n"]
    whole = frame[frame["scope"] == "all"]
    assert whole["metric"].tolist() == list(STATISTICS) and set(frame["scope"]) == {"all", *TRACK_LENGTHS}
    np.testing.assert_array_equal(whole["value"], list(match(*data).summary().values()))
    assert frame["value"].dtype == np.float64 and frame["n"].dtype == np.int64
    intervals = frame[frame["value"].notna() & (frame["n"] > 1)]
    assert frame.loc[frame["n"] < 2, "ci_low"].isna().all(), "one video says nothing about others"
    assert (intervals["ci_low"] <= intervals["ci_high"]).all() and intervals["ci_low"].between(0, 1).all()


def test_undefined_is_null_never_minus_one(data: tuple[dict, list[dict]]) -> None:
    gt = data[0] | {"annotations": []}
    frame = evaluate(gt, data[1], ("ap", "visibility"), per_category=True, replicates=20)
    assert len(frame) == 12 * (1 + len(gt["categories"])) + 6 * 3 + 3
    assert frame[["value", "ci_low", "ci_high"]].isna().all(axis=None) and (frame["n"] == 0).all()
    assert json.loads(frame.to_json(orient="records"))[0]["value"] is None


def test_per_category(data: tuple[dict, list[dict]]) -> None:
    gt, results = data
    frame = evaluate(gt, results, per_category=True, replicates=0).set_index(["metric", "scope"])
    names = [category["name"] for category in gt["categories"]]
    by_category = frame.loc["AP"].loc[names, "value"]
    assert frame.loc[("AP", "all"), "value"] == pytest.approx(np.nanmean(by_category), abs=1e-15)
    for category in gt["categories"]:
        videos = {a["video_id"] for a in gt["annotations"] if a["category_id"] == category["id"] and not a["iscrowd"]}
        assert frame.loc[("AP", category["name"]), "n"] == len(videos)
    assert frame["ci_low"].isna().all()


def test_repeated_category_names_carry_their_id(data: tuple[dict, list[dict]]) -> None:
    gt = copy.deepcopy(data[0])
    gt["categories"] = [{"id": category["id"], "name": "all"} for category in gt["categories"]]
    scopes = set(evaluate(gt, data[1], per_category=True, replicates=0)["scope"])
    assert scopes == {"all", *TRACK_LENGTHS} | {f"all ({category['id']})" for category in gt["categories"]}


def test_visibility_rows(data: tuple[dict, list[dict]]) -> None:
    frame = evaluate(*data, metrics=("visibility",), replicates=10)
    assert frame["metric"].tolist() == ["IoU"] * 3
    assert frame["scope"].tolist() == ["evident", "faint with visible neighbour", "faint without visible neighbour"]
    assert frame["value"][0] > 0 and frame["value"][1:].isna().all()
    assert frame["n"][0] > 0 and frame["n"].tolist()[1:] == [0, 0]


def test_files(tmp_path: Path, data: tuple[dict, list[dict]]) -> None:
    paths = [tmp_path / "gt.json", tmp_path / "results.json"]
    for path, content in zip(paths, data, strict=True):
        path.write_text(json.dumps(content))
    from_files = evaluate(str(paths[0]), paths[1], replicates=20)
    assert from_files.equals(evaluate(*data, replicates=20))
    paths[1].write_text(json.dumps([{"score": "abc"}]))
    with pytest.raises(UserError, match=r'results.json: \[0\].score is "abc", expected a number'):
        evaluate(*paths)


def test_seed_decides_the_interval(data: tuple[dict, list[dict]]) -> None:
    first = evaluate(*data, replicates=100)
    assert first.equals(evaluate(*data, replicates=100))
    other = evaluate(*data, replicates=100, seed=1)
    assert first["value"].equals(other["value"]) and not first["ci_low"].equals(other["ci_low"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "magic"}, "no metric 'magic'; there are ap, mot, hota, errors, visibility"),
        ({"metrics": ("ap", "HOTA")}, "no metric 'HOTA'"),
        ({"metrics": ()}, "none is named"),
        ({"replicates": -1}, "replicates is -1, expected an integer >= 0"),
        ({"workers": 0}, "workers is 0, expected an integer >= 1"),
        ({"metrics": "mot", "score_threshold": math.nan}, "score_threshold is not a number"),
    ],
)
def test_options_that_are_none(data: tuple[dict, list[dict]], options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(*data, **options)


def test_lists_must_be_as_long_as_their_video(data: tuple[dict, list[dict]]) -> None:
    gt, results = data
    longer = [results[0] | {"segmentations": [None, None]}, *results[1:]]
    assert not math.isnan(match(gt, longer).summary()["AP"])  # the published rule
    with pytest.raises(UserError, match=r"results: \[0\].segmentations has 2 entries, expected 1"):
        evaluate(gt, longer)


def test_public_name() -> None:
    assert vislab.evaluate is evaluate


def test_ap_by_track_length_and_occlusion(videos: tuple[dict, list[dict]]) -> None:
    gt, results = copy.deepcopy(videos)
    for record in gt["annotations"]:
        record["visible_fractions"] = [0.5 + 0.4 * (record["id"] % 2)] * len(record["segmentations"])
    truth = read_ground_truth(gt)
    expected = subset_matches(truth, read_results(results, truth))
    frame = evaluate(gt, results, replicates=0)
    assert list(dict.fromkeys(frame["scope"])) == list(expected) and "occlusion heavy" in expected
    for scope, matches in expected.items():
        np.testing.assert_equal(values(frame, scope), matches.summary())


@pytest.mark.parametrize("class_agnostic", [True, False])
def test_tracking_is_that_of_its_modules(videos: tuple[dict, list[dict]], class_agnostic: bool) -> None:
    truth = read_ground_truth(videos[0])
    detections = read_results(videos[1], truth)
    options = {"score_threshold": 0.4, "class_agnostic": class_agnostic}
    frame = evaluate(*videos, ("mot", "hota"), replicates=0, per_video=True, **options)
    boxes, masks = (mot_instances(truth, detections, overlap=overlap, **options) for overlap in ("box", "mask"))
    expected = {name: float(value[0]) for name, value in boxes.summaries().items()}
    expected |= {f"mask {name}": float(value[0]) for name, value in masks.summaries().items()}
    tracked = hota_instances(truth, detections, **options)
    expected |= {name: float(value[0]) for name, value in tracked.summaries().items()}
    np.testing.assert_equal(values(frame), expected)
    for position, video in enumerate(truth.videos):
        found = values(frame, str(video))
        assert len(found) == 2 * len(mot.STATISTICS) + len(hota.STATISTICS)
        for name in mot.STATISTICS:
            np.testing.assert_equal(found[name], boxes.per_video()[name][position])
            np.testing.assert_equal(found[f"mask {name}"], masks.per_video()[name][position])
        np.testing.assert_equal(found["HOTA"], tracked.per_video()["HOTA"][position])
    single = frame[frame["scope"] != "all"]
    assert set(single["n"]) <= {0, 1} and single["ci_low"].isna().all()


def test_errors_are_those_of_their_module(videos: tuple[dict, list[dict]]) -> None:
    truth = read_ground_truth(videos[0])
    expected = error_breakdown(truth, read_results(videos[1], truth))
    frame = evaluate(*videos, "errors", replicates=30)
    found = values(frame)
    for name in ORACLES:
        np.testing.assert_equal(found[f"dAP50 {name}"], expected.summaries()[name][0])
        assert found[f"errors {name}"] == expected.counts[name]
    assert len(found) == 2 * len(ORACLES)


def test_intervals_are_basic_ones_within_what_the_number_can_be(videos: tuple[dict, list[dict]]) -> None:
    frame = evaluate(*videos, EVERYTHING, replicates=200).query("scope == 'all'").set_index("metric")
    expected = bootstrap([match(*videos)], "AP50", replicates=200)
    ends = frame.loc["AP50", ["ci_low", "ci_high"]].tolist()
    assert ends == pytest.approx([expected.ci_low, expected.ci_high], abs=1e-14)
    defined = frame.dropna()
    assert (defined["ci_low"] <= defined["ci_high"]).all()
    assert frame.loc["MOTA", "value"] < 0 and frame.loc["MOTA", "ci_low"] < frame.loc["MOTA", "value"]
    assert frame.loc["FP", "ci_high"] > frame.loc["FP", "value"] > 1 and (defined["ci_low"][["FP", "IDs"]] >= 0).all()
    fractions = ["AP", "IDF1", "HOTA", "mask IDP"]
    assert defined.loc[fractions, ["ci_low", "ci_high"]].stack().between(0, 1).all()


def test_several_runs_give_their_mean(videos: tuple[dict, list[dict]]) -> None:
    gt, results = videos
    other = [record | {"score": 1 - record["score"]} for record in results]
    frame = evaluate(gt, [results, other], ("ap", "hota"), replicates=100)
    each = [values(evaluate(gt, run, ("ap", "hota"), replicates=0)) for run in (results, other)]
    for name, value in values(frame).items():
        np.testing.assert_equal(value, float(np.mean([run[name] for run in each])))
    expected = bootstrap([match(gt, results), match(gt, other)], "AP", replicates=100)
    found = frame.loc[0, ["value", "ci_low", "ci_high"]].tolist()
    assert found == pytest.approx([expected.value, expected.ci_low, expected.ci_high], abs=1e-14)


def test_no_detections(videos: tuple[dict, list[dict]]) -> None:
    found = values(evaluate(videos[0], [], EVERYTHING, replicates=10))
    assert found["AP"] == 0 and found["IDF1"] == 0 and found["HOTA"] == 0 and math.isnan(found["IDP"])
    assert found["errors false positive"] == 0 and found["errors miss"] == found["errors false negative"] > 0


def test_no_videos() -> None:
    frame = evaluate({"videos": [], "categories": [], "annotations": []}, [], EVERYTHING, replicates=10, per_video=True)
    fractions = frame[~frame["metric"].str.contains("errors|IDs|Frag|MT|PT|ML|FP|FN")]
    assert fractions["value"].isna().all() and (frame["n"] == 0).all()


def test_names_of_videos(data: tuple[dict, list[dict]]) -> None:
    gt = copy.deepcopy(data[0])
    gt["videos"] = [{"id": 1, "file_names": ["bear/00.jpg"]}, {"id": 2, "file_names": ["bear/1.jpg"]}, {"id": 3}]
    gt["videos"] += [{"id": 4, "name": "swan", "file_names": ["x/0.jpg"]}, {"id": 5, "file_names": ["0.jpg"]}]
    gt["videos"] = [video | {"height": 300, "width": 300} for video in gt["videos"]]
    frame = evaluate(gt | {"annotations": []}, [], "hota", replicates=0, per_video=True)
    assert list(dict.fromkeys(frame["scope"])) == ["all", "bear (1)", "bear (2)", "3", "swan", "5"]


def test_progress_reaches_the_end(videos: tuple[dict, list[dict]]) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    evaluate(
        *videos, replicates=10, progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total))
    )
    assert list(seen) == ["matching results", "intervals"]
    for steps in seen.values():
        assert steps == sorted(steps) and steps[-1][0] == steps[-1][1] > 0
