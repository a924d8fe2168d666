"""Malformed files: each ends in one error that names the file and the place."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from malformed import CONTENTS, EMPTY, GROUND_TRUTH, GT, RESULTS, RESULTS_LIST, Change, put

import vislab
from vislab.errors import UserError
from vislab.metrics import match
from vislab.metrics.inputs import load_json, read_ground_truth, read_results


def write(folder: Path, gt: Any = GT, results: Any = RESULTS) -> tuple[Path, Path]:
    """Two files; bytes are written as they are."""
    paths = folder / "gt.json", folder / "results.json"
    for path, document in zip(paths, (gt, results), strict=True):
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return paths


def error_of(paths: tuple[Path, Path]) -> str:
    with pytest.raises(UserError) as caught:
        vislab.evaluate(*paths, metrics=("ap",), replicates=0)
    return str(caught.value)


def test_there_are_enough_cases() -> None:
    assert len(GROUND_TRUTH) + len(RESULTS_LIST) + len(CONTENTS) >= 100


def test_the_unbroken_files_are_read(tmp_path: Path) -> None:
    gt, results = write(tmp_path)
    truth = read_ground_truth(load_json(gt), str(gt))
    detections = read_results(load_json(results), truth, str(results))
    assert list(truth.videos) == [1, 2] and truth.categories == {1: "cat", 3: "dog"}
    assert [i.mask_areas.tolist() for i in truth.instances] == [[0, 0], [0]]
    assert [d.mask_areas.tolist() for d in detections] == [[0, 0], [8]]
    assert detections[1].track[0] == {"size": [4, 6], "counts": "48<"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_json_allows(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS), encoding)
    assert load_json(path) == RESULTS


def test_input_is_left_unchanged() -> None:
    gt, results = copy.deepcopy(GT), copy.deepcopy(RESULTS)
    results[0]["segmentations"][1] = {"size": [4, 6], "counts": "400d0"}  # an empty run, which is taken out on reading
    before = copy.deepcopy(results)
    match(gt, results)
    assert (gt, results) == (GT, before)


@pytest.mark.parametrize(
    ("change", "place", "told"), GROUND_TRUTH, ids=[f"{place} {told}" for _, place, told in GROUND_TRUTH]
)
def test_broken_ground_truth(tmp_path: Path, change: Change, place: str, told: str) -> None:
    paths = write(tmp_path, gt=change(GT))
    check(error_of(paths), paths[0], place, told)


@pytest.mark.parametrize(
    ("change", "place", "told"), RESULTS_LIST, ids=[f"{place} {told}" for _, place, told in RESULTS_LIST]
)
def test_broken_results(tmp_path: Path, change: Change, place: str, told: str) -> None:
    paths = write(tmp_path, results=change(RESULTS))
    check(error_of(paths), paths[1], place, told)


def check(message: str, path: Path, place: str, told: str) -> None:
    """One readable line that begins with the file and the place in it."""
    assert message.startswith((f"{path}: {place} ", f"{path}: {place}: ")), message
    assert told in message
    assert message.isprintable() and len(message) < len(str(path)) + 300


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("broken", [0, 1], ids=["ground truth", "results"])
def test_files_that_are_not_json(tmp_path: Path, name: str, broken: int) -> None:
    content, told = CONTENTS[name]
    paths = write(tmp_path, **{("gt", "results")[broken]: content})
    message = error_of(paths)
    assert message.startswith(f"{paths[broken]}: ") and told in message and message.isprintable()


@pytest.mark.parametrize("path", ["absent.json", ".", "a\0b", "x" * 5000], ids=["absent", "folder", "null", "long"])
def test_files_that_cannot_be_read(path: str) -> None:
    with pytest.raises(UserError, match=": cannot be read"):
        load_json(path)


@pytest.mark.parametrize(
    ("gt", "results", "file", "told"),
    [
        (GT, b"[{", 1, "the file seems cut off"),
        (RESULTS, GT, 0, "it looks like results: the ground truth comes first"),
        (GT, GT, 1, "it looks like ground truth: the results come second"),
        (GT, [RESULTS[0] | {"score": float("nan")}], 1, ": [0].score is NaN, expected a number"),
        (
            GT,
            [RESULTS[0] | {"segmentations": [None, EMPTY | {"counts": "0"}]}],
            1,
            ": [0].segmentations[1]: counts add",
        ),
    ],
    ids=["cut off", "swapped", "ground truth twice", "NaN", "run-length code"],
)
def test_command_line(tmp_path: Path, gt: Any, results: Any, file: int, told: str) -> None:
    paths = write(tmp_path, gt, results)
    command = [sys.executable, "-m", "vislab", "evaluate", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path(vislab.__file__).parents[1])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {paths[file]}: ") and told in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n")


@pytest.mark.parametrize("value", [{1, 2}, object(), b"3", 2**20_000], ids=["set", "object", "bytes", "huge"])
@pytest.mark.parametrize("path", [(0, "score"), (0, "video_id"), (0, "segmentations", 1)])
def test_values_that_no_file_can_hold(path: tuple[Any, ...], value: object) -> None:
    with pytest.raises(UserError, match=r"^results: \[0\]\..*(is|found) a value of type"):
        read_results(put(*path, value)(RESULTS), read_ground_truth(GT))


def test_the_faulty_one_of_many_codes_is_named() -> None:
    results = [RESULTS[0] | {"segmentations": [[None, EMPTY], [EMPTY, None], [EMPTY] * 2][i % 3]} for i in range(30)]
    results[23] = RESULTS[0] | {"segmentations": [EMPTY, EMPTY | {"counts": "i0"}]}
    with pytest.raises(UserError, match=r"^results: \[23\].segmentations\[1\]: counts add up to 25 pixels"):
        read_results(results, read_ground_truth(GT))


def test_lists_of_unequal_length_where_they_are_allowed() -> None:
    results = [RESULTS[0] | {"segmentations": [EMPTY] * 5}]
    assert len(read_results(results, read_ground_truth(GT), any_length=True)[0].track) == 5


def test_file_names_stand_in_for_a_missing_length() -> None:
    gt = copy.deepcopy(GT)
    gt["videos"][0] = {"id": 1, "height": 4, "width": 6, "file_names": ["0.jpg", "1.jpg"]}
    assert read_ground_truth(gt).videos[1].length == 2
    gt["videos"][0].pop("file_names")
    assert read_ground_truth(gt).videos[1].length is None
