"""The table of numbers that a user sees."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from random_sets import random_set, to_json

import vislab
from vislab.errors import UserError
from vislab.metrics import STATISTICS, evaluate, match


@pytest.fixture(scope="module")
def data() -> tuple[dict, list[dict]]:
    """Lists as long as their videos."""
    gt, results = to_json(random_set(2, one_frame=True))
    for video in gt["videos"]:
        video["length"] = 1
    for record in gt["annotations"]:
        record["opacities"] = [1.0]
    return gt, results


def test_values_and_columns(data: tuple[dict, list[dict]]) -> None:
    frame = evaluate(*data, replicates=50)
    assert list(frame.columns) == ["metric", "scope", "value", "ci_low", "ci_high", "n"]
    assert frame["metric"].tolist() == list(STATISTICS) and set(frame["scope"]) == {"all"}
    expected = list(match(*data).summary().values())
    np.testing.assert_array_equal(frame["value"], expected)
    assert frame["value"].dtype == np.float64 and frame["n"].dtype == np.int64
    intervals = frame[~np.isnan(frame["value"])]
    assert (intervals["ci_low"] <= intervals["ci_high"]).all() and intervals["ci_low"].between(0, 1).all()


def test_undefined_is_null_never_minus_one(data: tuple[dict, list[dict]]) -> None:
    gt = data[0] | {"annotations": []}
    frame = evaluate(gt, data[1], ("ap", "visibility"), per_category=True, replicates=20)
    assert len(frame) == 12 * (1 + len(gt["categories"])) + 3
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
    assert scopes == {"all"} | {f"all ({category['id']})" for category in gt["categories"]}


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


@pytest.mark.parametrize("metrics", ["hota", ("ap", "hota")])
def test_unknown_metric(data: tuple[dict, list[dict]], metrics: str | tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="no metric 'hota'; there are ap, visibility"):
        evaluate(*data, metrics=metrics)


def test_lists_must_be_as_long_as_their_video(data: tuple[dict, list[dict]]) -> None:
    gt, results = data
    longer = [results[0] | {"segmentations": [None, None]}, *results[1:]]
    assert not math.isnan(match(gt, longer).summary()["AP"])  # the published rule
    with pytest.raises(UserError, match=r"results: \[0\].segmentations has 2 entries, expected 1"):
        evaluate(gt, longer)


def test_public_name() -> None:
    assert vislab.evaluate is evaluate
