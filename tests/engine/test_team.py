"""Processes that share a run: the same clips, losses, predictions and numbers as one process's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "team_runs.py"
MODELS = ("taformer", "ifr", "devis", "tevit", "refinevis")
COSTS = {"eval_seconds", "infer_seconds", "read_seconds", "train_seconds", "peak_memory_bytes", "env"}


def scenario(folder: Path, name: str) -> dict[str, list[Any]]:
    command = [sys.executable, str(SCRIPT), str(folder), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    return scenario(tmp_path_factory.mktemp("losses"), "losses")


def clips(ranks: list[Any], steps: int) -> list[Any]:
    """All that were trained on, in order; processes make some ahead."""
    return sorted(clip for rank in ranks for clip in rank["order"] if clip[0] < steps)


@pytest.mark.slow
def test_twenty_steps_are_those_of_one_process(tmp_path: Path) -> None:
    found = scenario(tmp_path, "twenty")
    (alone,) = found["1"]
    for size in ("2", "4"):
        assert clips(found[size], 20) == clips([alone], 20) and len(clips(found[size], 20)) == 80
        for rank in found[size]:
            assert len(rank["losses"]) == 20
            assert rank["losses"] == pytest.approx(alone["losses"], rel=0, abs=1e-5)


@pytest.mark.parametrize(("batch", "size"), [("whole", 2), ("whole", 3), ("halves", 4)])
def test_steps_are_those_of_one_process(losses: dict[str, list[Any]], batch: str, size: int) -> None:
    """Also where the processes do not divide the batch, and where two of them share each micro batch."""
    (alone,), team = losses[f"{batch} 1"], losses[f"{batch} {size}"]
    assert clips(team, 3) == clips([alone], 3) and len(clips(team, 3)) == 12
    assert all(len(rank["losses"]) == 3 and rank["losses"] == pytest.approx(alone["losses"], abs=1e-5) for rank in team)


def test_micro_batches_stay_what_they_are(losses: dict[str, list[Any]]) -> None:
    whole, halves = losses["whole 1"][0]["losses"], losses["halves 1"][0]["losses"]
    assert halves[0] != pytest.approx(whole[0], rel=1e-4), "each is divided by counts of its own"


def test_all_processes_explain_what_one_of_them_saw(losses: dict[str, list[Any]]) -> None:
    (error,) = {rank["error"] for rank in losses["broken"]}
    assert error.startswith("training stopped at step 3: loss class") and "(Conv2d); videos: " in error
    culprits = [clip[2] for clip in clips(losses["broken"], 4) if clip[0] == 3][2:]
    assert error.endswith(f"videos: {', '.join(culprits)}"), "of the process that has clip 2, not of all"
    assert all(len(rank["losses"]) == 3 for rank in losses["broken"])


@pytest.mark.slow
def test_a_training_goes_on_with_more_or_fewer_processes(tmp_path: Path) -> None:
    found = scenario(tmp_path, "resumed")
    whole = found["whole"][0]["losses"]
    assert found["2"][0]["losses"] == pytest.approx(whole[:3], abs=1e-5)
    assert found["4"][0]["losses"] == pytest.approx(whole[2:5], abs=1e-5), "from the checkpoint of step 2"
    assert found["1"][0]["losses"] == pytest.approx(whole[4:], abs=1e-5), "from that of step 4"
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]


def test_parameters_that_some_clips_do_not_use(tmp_path: Path) -> None:
    """They have the gradient of one process, also none at all, which the optimiser passes over."""
    found = scenario(tmp_path, "unused")
    for name in {name.rpartition(" ")[0] for name in found}:
        (alone,) = found[f"{name} 1"]
        assert found[f"{name} 2"] == [alone] * 2, name


def test_runs_end_alike(tmp_path: Path) -> None:
    found = scenario(tmp_path, "evaluated")
    (alone,), team = found["1"], found["2"]
    assert [rank["record"] for rank in team] == [team[0]["record"]] * 2
    assert all(rank["trained"] and rank["evaluated"] for rank in team)
    assert alone["record"]["env"]["processes"] == 1 and team[0]["record"]["env"]["processes"] == 2
    assert {alone["record"][key] == team[0]["record"][key] for key in ("train_key", "eval_key", "n_frames")} == {True}
    by_one, by_three = (Path(path) for path in found["files"])
    assert by_one.read_bytes() == by_three.read_bytes() and len(json.loads(by_one.read_text())) > 0
    assert not list(tmp_path.rglob("predicted-*"))
    records = [{k: v for k, v in found[name][0]["record"].items() if k not in COSTS} for name in ("more 1", "more 3")]
    assert records[0] == records[1]
    assert not found["more 3"][0]["trained"] and found["more 3"][0]["evaluated"]


@pytest.mark.slow
def test_every_papers_model_trains_in_two_processes(tmp_path: Path) -> None:
    """With points, noise and shifts that are drawn for the whole batch. After the first step single terms may differ by
    more than rounding: AdamW's first updates are as large for a gradient that is nothing but rounding as for others."""
    found = scenario(tmp_path, "models")
    for name in MODELS:
        for step, (alone, team) in enumerate(zip(found[f"{name} 1"], found[f"{name} 2"], strict=True)):
            assert team == pytest.approx(alone, rel=2e-5, abs=1e-4 if step else 1e-5), (name, step)
