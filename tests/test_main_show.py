"""`vislab data show`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vislab.__main__ import main
from vislab.data import DatasetConfig, load_dataset

SMALL = ["synthetic-ovis", "--height", "48", "--width", "80", "--length", "3", "--num-categories", "8"]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The ground truth of the first two videos, the second of them with scores below the usual least one."""
    dataset = load_dataset(DatasetConfig("synthetic-ovis", 2, 48, 80, 3, 8), "valid")
    entries = [
        {key: annotation[key] for key in ("video_id", "category_id", "segmentations")}
        | {"score": 0.9 if annotation["video_id"] == 1 else 0.2}
        for annotation in dataset.ground_truth()["annotations"]
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    return path


def show(*arguments: object) -> int:
    return main(["data", "show", *SMALL, *map(str, arguments)])


def test_a_picture_of_each_video_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show("--out", tmp_path / "pictures", "--first", 2, "--frames", 2) == 0
    files = [tmp_path / "pictures" / "00000.png", tmp_path / "pictures" / "00001.png"]
    assert capsys.readouterr().out.split() == list(map(str, files))
    with Image.open(files[0]) as image:
        assert image.width > 2 * 320 and image.height > 2 * 192


def test_predictions_add_a_row(tmp_path: Path, results: Path) -> None:
    assert show("--out", tmp_path / "without.png", "--videos", "00001,0") == 0
    assert show("--out", tmp_path / "with.png", "--videos", "00001,0", "--results", results) == 0
    assert show("--out", tmp_path / "all.png", "--videos", "00001,0", "--results", results, "--min-score", 0) == 0
    without, shown, everything = (Image.open(tmp_path / f"{name}.png") for name in ("without", "with", "all"))
    assert shown.size == everything.size == (without.width, without.height + 2 * (192 + 4))
    assert shown.tobytes() != everything.tobytes()


def test_an_animation(tmp_path: Path, results: Path) -> None:
    assert show("--out", tmp_path / "video.gif", "--scale", 1, "--results", results) == 0
    with Image.open(tmp_path / "video.gif") as image:
        assert image.n_frames == 3 and image.width > 3 * 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.jpg"], "--out x.jpg ends in '.jpg', expected .png, .gif or a folder"),
        (["--out", "x.gif", "--first", "2"], "--videos and --first choose 2 videos, expected 1, as --out is a .gif"),
        (["--out", "x.png", "--first", "0"], "--videos and --first choose 0 videos, expected at least 1"),
        (["--out", "x.png", "--videos", "999"], "synthetic-ovis: no video '999'; expected positions from 0 to 139"),
        (["--out", "x.png", "--frames", "0"], "--frames is 0, expected at least 1"),
        (["--out", "x.png", "--results", "none.json"], "none.json: cannot be read"),
        (["--out", "x.png", "--height", "8"], "data set 'synthetic-ovis': height=8; expected at least 32"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert show(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_results_of_other_data_are_refused(tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = json.loads(results.read_text())
    results.write_text(json.dumps([*entries, entries[0] | {"video_id": 4711}]))
    assert show("--out", tmp_path / "x.png", "--results", results) == 2
    assert f"results.json: [{len(entries)}].video_id is 4711" in capsys.readouterr().err
    assert main(["data", "show", str(tmp_path), "--out", "x.png"]) == 2
    assert main(["data", "show", str(tmp_path / "nowhere"), "--out", "x.png"]) == 2
    assert "does not exist" in capsys.readouterr().err
