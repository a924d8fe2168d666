"""Malformed files: each ends in one error that names the file and the place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vislab.errors import UserError
from vislab.metrics import match
from vislab.metrics.inputs import load_json, read_ground_truth, read_results

EMPTY = {"size": [4, 6], "counts": "h0"}  # 24 pixels of background

GT: dict[str, Any] = {
    "videos": [{"id": 1, "height": 4, "width": 6, "length": 2}, {"id": 2, "height": 4, "width": 6}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 7, "video_id": 1, "category_id": 3, "iscrowd": 0, "segmentations": [EMPTY, None], "areas": [0, None]},
        {"id": 8, "video_id": 2, "category_id": 3, "segmentations": [EMPTY], "areas": [5.5]},
    ],
}
RESULTS: list[dict[str, Any]] = [
    {"video_id": 1, "category_id": 3, "score": 0.5, "segmentations": [None, EMPTY]},
    {"video_id": 2, "category_id": 3, "score": 1, "segmentations": [{"size": [4, 6], "counts": [4, 8, 12]}]},
]


def test_the_unbroken_input_is_read() -> None:
    truth = read_ground_truth(GT)
    detections = read_results(RESULTS, truth)
    assert list(truth.videos) == [1, 2] and truth.categories == {3: "cat"}
    assert [i.mask_areas.tolist() for i in truth.instances] == [[0, 0], [0]]
    assert [d.mask_areas.tolist() for d in detections] == [[0, 0], [8]]
    assert detections[1].track[0] == {"size": [4, 6], "counts": "48<"}


def test_input_is_left_unchanged() -> None:
    gt, results = copy.deepcopy(GT), copy.deepcopy(RESULTS)
    match(gt, results)
    assert (gt, results) == (GT, RESULTS)


Change = Callable[[Any], object]


def put(*path: Any) -> Change:
    """Sets the value at the path; the last item is the value."""

    def change(data: Any) -> None:
        *parents, last, value = path
        for key in parents:
            data = data[key]
        data[last] = value

    return change


def drop(*path: Any) -> Change:
    def change(data: Any) -> None:
        *parents, last = path
        for key in parents:
            data = data[key]
        del data[last]

    return change


BROKEN_GT: list[tuple[Change, str]] = [
    (drop("videos"), "gt.json: videos is missing, expected a list"),
    (drop("categories"), "gt.json: categories is missing, expected a list"),
    (drop("annotations"), "gt.json: annotations is missing, expected a list"),
    (put("annotations", None), "gt.json: annotations is null: this file has no labels to compare with"),
    (put("annotations", {}), "gt.json: annotations is {}, expected a list"),
    (put("annotations", 1, "x"), 'gt.json: annotations[1] is "x", expected an object'),
    (put("videos", 0, []), "gt.json: videos[0] is a list, expected an object"),
    (drop("videos", 0, "id"), "gt.json: videos[0].id is missing, expected an integer"),
    (put("videos", 0, "id", "1"), 'gt.json: videos[0].id is "1", expected an integer'),
    (put("videos", 0, "id", 2**70), f"gt.json: videos[0].id is {2**70}, expected an integer"),
    (put("videos", 1, "id", 1), "gt.json: videos[1].id is 1, which videos[0] has already"),
    (drop("videos", 0, "height"), "gt.json: videos[0].height is missing, expected an integer >= 1"),
    (put("videos", 0, "width", 0), "gt.json: videos[0].width is 0, expected an integer >= 1"),
    (put("videos", 0, "width", 6.0), "gt.json: videos[0].width is 6.0, expected an integer >= 1"),
    (put("videos", 0, "height", True), "gt.json: videos[0].height is true, expected an integer >= 1"),
    (put("videos", 0, "height", 2**40), f"gt.json: videos[0]: height x width is {2**40} x 6, expected at most"),
    (put("videos", 0, "length", -1), "gt.json: videos[0].length is -1, expected an integer >= 0"),
    (put("categories", 0, "name", 5), "gt.json: categories[0].name is 5, expected a string"),
    (put("categories", 0, "id", None), "gt.json: categories[0].id is null, expected an integer"),
    (put("annotations", 1, "id", 7), "gt.json: annotations[1].id is 7, which annotations[0] has already"),
    (put("annotations", 1, "id", 1.5), "gt.json: annotations[1].id is 1.5, expected an integer"),
    (
        put("annotations", 0, "video_id", 9),
        "gt.json: annotations[0].video_id is 9, which the ground truth does not have",
    ),
    (put("annotations", 0, "video_id", [1]), "gt.json: annotations[0].video_id is [1], expected an integer"),
    (drop("annotations", 0, "category_id"), "gt.json: annotations[0].category_id is missing, expected an integer"),
    (put("annotations", 0, "category_id", 4), "gt.json: annotations[0].category_id is 4, which the ground truth does"),
    (put("annotations", 0, "iscrowd", 2), "gt.json: annotations[0].iscrowd is 2, expected 0 or 1"),
    (put("annotations", 0, "iscrowd", "no"), 'gt.json: annotations[0].iscrowd is "no", expected 0 or 1'),
    (drop("annotations", 0, "areas"), "gt.json: annotations[0].areas is missing, expected a list"),
    (put("annotations", 0, "areas", [1]), "gt.json: annotations[0].areas has 1 entries, segmentations has 2"),
    (put("annotations", 0, "areas", 0, -1), "gt.json: annotations[0].areas[0] is -1, expected a number >= 0 or null"),
    (put("annotations", 0, "areas", 1, "big"), 'gt.json: annotations[0].areas[1] is "big", expected a number >= 0'),
    (
        put("annotations", 1, "areas", 0, float("nan")),
        "gt.json: annotations[1].areas[0] is NaN, expected a number >= 0",
    ),
    (put("annotations", 1, "areas", 0, 10**400), "gt.json: annotations[1].areas[0] is 1000"),
    (drop("annotations", 0, "segmentations"), "gt.json: annotations[0].segmentations is missing, expected a list"),
    (
        put("annotations", 0, "segmentations", [[[0, 0, 4, 0, float("nan"), 4]], None]),
        "gt.json: annotations[0].segmentations[0]: polygon coordinate 4",
    ),
]

SEGMENTATION = (0, "segmentations", 1)
BROKEN_RESULTS: list[tuple[Change, str]] = [
    (put(1, "text"), 'results.json: [1] is "text", expected an object'),
    (put(0, "score", "abc"), 'results.json: [0].score is "abc", expected a number'),
    (put(1, "score", float("nan")), "results.json: [1].score is NaN, expected a number"),
    (put(1, "score", float("inf")), "results.json: [1].score is Infinity, expected a number"),
    (put(1, "score", True), "results.json: [1].score is true, expected a number"),
    (drop(0, "score"), "results.json: [0].score is missing, expected a number"),
    (put(0, "video_id", 5), "results.json: [0].video_id is 5, which the ground truth does not have (the published"),
    (put(0, "category_id", 0), "results.json: [0].category_id is 0, which the ground truth does not have"),
    (
        put(0, "segmentations", None),
        "results.json: [0].segmentations is null, expected a list with one entry per frame",
    ),
    (
        put(0, "segmentations", [None]),
        "results.json: [0].segmentations has 1 entries, expected 2, the length of video 1",
    ),
    (put(*SEGMENTATION, "h0"), "results.json: [0].segmentations[1]: expected an RLE"),
    (put(*SEGMENTATION, {"size": [4, 6]}), "results.json: [0].segmentations[1]: expected an RLE"),
    (put(*SEGMENTATION, EMPTY | {"size": [6, 4]}), "results.json: [0].segmentations[1]: size is [6, 4], expected"),
    (put(*SEGMENTATION, EMPTY | {"size": "4x6"}), "results.json: [0].segmentations[1]: size is"),
    (put(*SEGMENTATION, EMPTY | {"counts": 24}), "results.json: [0].segmentations[1]: counts must be"),
    (put(*SEGMENTATION, EMPTY | {"counts": ""}), "results.json: [0].segmentations[1]: counts are empty"),
    (put(*SEGMENTATION, EMPTY | {"counts": "h"}), "results.json: [0].segmentations[1]: counts end in the middle"),
    (put(*SEGMENTATION, EMPTY | {"counts": "h0h0"}), "results.json: [0].segmentations[1]: counts add up to 48 pixels"),
    (put(*SEGMENTATION, EMPTY | {"counts": "h\u00e9"}), "results.json: [0].segmentations[1]: counts hold a character"),
    (put(*SEGMENTATION, EMPTY | {"counts": [4, 8]}), "results.json: [0].segmentations[1]: counts add up to 12 pixels"),
    (put(*SEGMENTATION, EMPTY | {"counts": [30, -6]}), "results.json: [0].segmentations[1]: counts must be integers"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN_GT, ids=[message for _, message in BROKEN_GT])
def test_broken_ground_truth(change: Change, message: str) -> None:
    broken = copy.deepcopy(GT)
    change(broken)
    with pytest.raises(UserError) as error:
        read_ground_truth(broken, "gt.json")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "message"), BROKEN_RESULTS, ids=[message for _, message in BROKEN_RESULTS])
def test_broken_results(change: Change, message: str) -> None:
    broken = copy.deepcopy(RESULTS)
    change(broken)
    with pytest.raises(UserError) as error:
        read_results(broken, read_ground_truth(GT), "results.json")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize("top", [[], None, "text", 3])
def test_ground_truth_must_be_an_object(top: object) -> None:
    with pytest.raises(UserError, match="gt.json: the top level is .*, expected an object"):
        read_ground_truth(top, "gt.json")


@pytest.mark.parametrize("top", [{}, None, "text", 3])
def test_results_must_be_a_list(top: object) -> None:
    with pytest.raises(UserError, match="results.json: the top level is .*, expected a list of detections"):
        read_results(top, read_ground_truth(GT), "results.json")


@pytest.mark.parametrize(
    "content",
    [b"", json.dumps(GT).encode()[:-20], b"\xff\xfe\x00", b"{'a': 1}", b"[" * 100_000, b"1" * 10_000],
    ids=["empty", "cut off", "no text", "quotes", "deep", "huge number"],
)
def test_files_that_are_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="results.json: not valid JSON, or cut off"):
        load_json(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.json: cannot be read"):
        load_json(tmp_path / "absent.json")
    with pytest.raises(UserError, match="cannot be read"):
        load_json(tmp_path)


def test_unequal_lengths_where_they_are_allowed() -> None:
    results = [RESULTS[0] | {"segmentations": [EMPTY] * 5}]
    assert len(read_results(results, read_ground_truth(GT), any_length=True)[0].track) == 5
