"""`vislab bench evaluate`: that all competitors agree, what it refuses and what it writes. No times."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vislab import __main__ as command

command.load_benchmark("rle")

# A package that is loaded by its path; its modules have names from here on.
from rle_bench import cases, made  # noqa: E402
from rle_bench import command as bench  # noqa: E402


def run(out: Path, *options: str) -> int:
    return command.main(["bench", "evaluate", "--videos", "3", "--rounds", "1", "--out", str(out), *options])


def test_a_small_run_from_the_check_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--cases", "ap", "mot") == 0 and run(tmp_path, "--cases", "mot") == 0
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("evaluate-") and path.suffix == ".csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == bench.COLUMNS
    assert [row["case"] for row in rows] == ["ap"] * 3 + ["mot"] * 2
    for row in rows:
        assert float(row["cpu_seconds"]) > 0 and row["videos"] == "3" and row["rounds"] == "1"
        assert row["competitor"] != row["reference"] or float(row["ratio"]) == 1
    assert "times as fast" in capsys.readouterr().out


def test_trackeval_agrees_or_is_said_to_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--cases", "tracking") == 0
    assert bool(list(tmp_path.iterdir())) != ("TrackEval is not installed" in capsys.readouterr().out)


def test_a_wrong_number_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = cases.own_ap
    monkeypatch.setattr(cases, "own_ap", lambda files: right(files) | {"AR10": 0.123})
    monkeypatch.setattr(bench, "_cpu_seconds", lambda run: pytest.fail("something was timed"))
    assert run(tmp_path, "--cases", "ap") == 1
    assert "wrong number, ap is not written: AR10 is 0.123" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_made_data_has_the_size_of_youtube_vis(tmp_path: Path) -> None:
    truth = json.loads(made.make(tmp_path, 4).ground_truth.read_text())
    assert len(truth["annotations"]) == round(made.TRACKS * 4 / made.VIDEOS) and len(truth["videos"]) == 4
    again = made.make(tmp_path, 4).results.read_bytes()
    assert again == made.make(tmp_path, 4).results.read_bytes() != made.make(tmp_path, 4, seed=1).results.read_bytes()


@pytest.mark.parametrize("arguments", [["--cases", "none"], ["--rounds", "0"], ["--videos", "-1"], ["surplus"]])
def test_wrong_options_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["bench", "evaluate", *arguments])
    assert exit_.value.code == 2 and "usage: vislab bench evaluate" in capsys.readouterr().err


def test_without_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "EVALUATION_BENCHMARK", tmp_path / "bench")
    monkeypatch.delitem(sys.modules, "rle_bench")
    assert command.main(["bench", "evaluate"]) == 2
    assert "comes with a checkout" in capsys.readouterr().err


def test_the_folder_runs_too() -> None:
    folder = str(command.EVALUATION_BENCHMARK)
    done = subprocess.run([sys.executable, folder, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("usage: vislab bench evaluate")
