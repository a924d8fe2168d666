"""The `vislab` command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vislab.__main__ import main

MASK = {"size": [2, 2], "counts": [0, 4]}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A ground truth with one object, and results that find it."""
    truth = {
        "videos": [{"id": 1, "width": 2, "height": 2, "length": 2}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": [MASK, None], "areas": [4, None]}
        ],
    }
    found = [{"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": [MASK, None]}]
    paths = tmp_path / "gt.json", tmp_path / "results.json"
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    return str(paths[0]), str(paths[1])


def test_evaluate_prints_and_writes(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["evaluate", *files, "--csv", str(tmp_path / "n.csv"), "--json", str(tmp_path / "n.json")])
    assert code == 0
    assert "AP50" in capsys.readouterr().out
    records = json.loads((tmp_path / "n.json").read_text())
    assert list(records[0]) == ["metric", "scope", "value", "ci_low", "ci_high", "n"]
    values = {record["metric"]: record["value"] for record in records if record["scope"] == "all"}
    assert values["AP"] == pytest.approx(1.0) and values["APl"] is None, "undefined is null, never -1"
    with (tmp_path / "n.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["metric"]: row["value"] for row in rows}["AP"] not in ("", "-1")
    assert {row["metric"]: row["value"] for row in rows}["APl"] == ""


def test_evaluate_mistakes(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"videos": [')
    for arguments, part in (
        ([str(tmp_path / "none.json"), files[1]], "none.json"),
        ([str(broken), files[1]], "broken.json"),
        ([*files, "--metrics", "magic"], "magic"),
        ([*files, "--csv", str(tmp_path / "gt.json" / "x.csv")], "x.csv"),
    ):
        assert main(["evaluate", *arguments]) == 2
        error = capsys.readouterr().err
        assert part in error and error.startswith("error: ") and error.count("\n") == 1


def test_synth_writes_what_check_accepts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--num-videos", "1", "--height", "32", "--width", "64", "--length", "2", "--num-categories", "8"]
    assert (
        main(["data", "synth", "synthetic-ytvis19+faint=0.1", "--out", str(tmp_path), "--split", "valid", *size]) == 0
    )
    assert (tmp_path / "valid.json").exists() and not (tmp_path / "train.json").exists()
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "videos       1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["data", "check", "no-such-folder"], "no-such-folder"),
        (["data", "synth", "synthetic-ytvis19+fog=1", "--out", "x"], "no dial 'fog'"),
    ],
)
def test_data_mistakes(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert part in capsys.readouterr().err


def test_doctor_names_versions_and_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for part in ("python", "torch", "deform_attn cpu", "CUDA device"):
        assert part in text


@pytest.mark.parametrize("arguments", [[], ["data"], ["evaluate"], ["nonsense"]])
def test_incomplete_commands_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["data", "synth", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0 and "usage: vislab" in capsys.readouterr().out


def test_help_needs_no_torch() -> None:
    code = "import sys; from vislab.__main__ import parser; parser().format_help(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
