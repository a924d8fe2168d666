"""The `vislab` command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import vislab
from vislab.__main__ import main
from vislab.data.synthetic.config import Dials
from vislab.errors import UserError

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
    text = capsys.readouterr().out
    for part in ("AP50", "IDF1", "HOTA", "classification"):
        assert part in text
    records = json.loads((tmp_path / "n.json").read_text())
    assert list(records[0]) == ["metric", "scope", "value", "ci_low", "ci_high", "n"]
    values = {record["metric"]: record["value"] for record in records if record["scope"] == "all"}
    assert values["AP"] == pytest.approx(1.0) and values["APl"] is None, "undefined is null, never -1"
    with (tmp_path / "n.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["scope"] == "all"]
    assert {row["metric"]: row["value"] for row in rows}["AP"] not in ("", "-1")
    assert {row["metric"]: row["value"] for row in rows}["APl"] == ""


def test_evaluate_compares_draws_and_writes_differences(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.json").write_text("[]")
    plots, differences = tmp_path / "plots", [tmp_path / "d.csv", tmp_path / "d.json"]
    arguments = ["--compare", str(tmp_path / "none.json"), "--metrics", "ap,mot", "--plots", str(plots)]
    for path in differences:
        assert main(["evaluate", *files, *arguments, "--differences", str(path), "--csv", str(tmp_path / "n.csv")]) == 0
    text = capsys.readouterr().out
    assert "results against none" in text and "not supported by 1 video " in text and "no errors: needs" in text
    assert (plots / "precision_recall.pdf").exists() and (plots / "ap_by_threshold.png").exists()
    records = json.loads(differences[1].read_text())
    assert records[0]["metric"] == "AP" and records[0]["difference"] == pytest.approx(1.0)
    assert len(differences[0].read_text().splitlines()) == 1 + len(records)
    header = (tmp_path / "n.csv").read_text().splitlines()[0]
    assert header == "metric,scope,value,ci_low,ci_high,n", "the contract's columns, with --compare too"


def test_evaluate_takes_runs_and_options(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--per-category", "--per-video", "--score-threshold", "0.6", "--class-aware", "--replicates", "5"]
    out = tmp_path / "n.json"
    assert main(["evaluate", *files, files[1], "--json", str(out), "--workers", "1", *options]) == 0
    assert "mean of 2 runs" in capsys.readouterr().out
    values = {(record["metric"], record["scope"]): record["value"] for record in json.loads(out.read_text())}
    assert values["AP50", "cat"] == pytest.approx(1.0) and values["FN", "all"] == values["FN", "1"] == 1.0


def test_evaluate_divides_sizes_as_coco_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 x 40 pixels are small in a video and of medium size in an image."""
    square = {"size": [40, 40], "counts": [0, 1600]}
    truth = {
        "videos": [{"id": 1, "width": 40, "height": 40, "length": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "segmentations": [square], "areas": [1600]}
        ],
    }
    found = [{"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": [square]}]
    paths = [tmp_path / name for name in ("gt.json", "results.json", "numbers.json")]
    for path, content in zip(paths, (truth, found), strict=False):
        path.write_text(json.dumps(content))
    for areas, size in (("video", "APs"), ("image", "APm")):
        options = ["--areas", areas, "--metrics", "ap", "--json", str(paths[2])]
        assert main(["evaluate", str(paths[0]), str(paths[1]), *options]) == 0
        defined = {record["metric"] for record in json.loads(paths[2].read_text()) if record["value"] is not None}
        assert {"APs", "APm", "APl"} & defined == {size}
    with pytest.raises(UserError, match="areas is 'coco', expected one of video, image"):
        vislab.evaluate(truth, found, areas="coco")


def test_evaluate_mistakes(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"videos": [')
    for arguments, part in (
        ([str(tmp_path / "none.json"), files[1]], "none.json"),
        ([str(broken), files[1]], "broken.json"),
        ([*files, "--metrics", "magic"], "magic"),
        ([*files, "--csv", str(tmp_path / "gt.json" / "x.csv")], "x.csv"),
        ([*files, "--json", str(tmp_path)], "is a folder"),
        ([*files, "--plots", files[0]], "--plots"),
        ([*files, "--differences", "d.csv"], "--differences needs --compare"),
        ([*files, "--compare", files[1], "--differences", "d.txt"], ".csv or .json"),
        ([*files, "--compare", str(tmp_path / "none.json")], "none.json"),
        ([*files, "--workers", "0"], "workers is 0"),
        ([*files, "--score-threshold", "nan"], "score_threshold"),
    ):
        assert main(["evaluate", *arguments]) == 2
        error = capsys.readouterr().err
        assert part in error and error.startswith("error: ") and error.count("\n") == 1


def test_evaluate_refuses_outputs_before_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["evaluate", "no-gt.json", "no-results.json", "--csv", str(tmp_path / "file" / "x.csv")]) == 2
    assert "x.csv: cannot be written" in capsys.readouterr().err


def test_evaluate_interrupted(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vislab.report.evaluation.evaluate.evaluations", interrupt)
    assert main(["evaluate", *files]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_evaluate_needs_no_torch(files: tuple[str, str]) -> None:
    code = "import sys; from vislab.__main__ import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "evaluate", *files, "--workers", "2", "--replicates", "600"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


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


def test_synth_help_explains_every_dial(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["data", "synth", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 0
    for dial in fields(Dials):
        assert any(line.startswith(f"  {dial.name}: ") for line in lines), dial.name
