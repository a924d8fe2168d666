"""kill -9 at random moments, then the same command: the final weights are those of a run that was never killed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "killed_run.py"


def killed_run(folder: Path, kills: int, *options: str) -> int:
    command = [sys.executable, str(SCRIPT), str(folder), str(kills), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def weights_hash(folder: Path) -> str:
    (path,) = folder.rglob("weights.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def logged_steps(folder: Path) -> list[int]:
    (path,) = folder.rglob("metrics.jsonl")
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("kills", "options"),
    [(5, ()), pytest.param(10, ("--real",), marks=pytest.mark.slow)],
    ids=["loop", "whole run"],
)
def test_a_killed_run_ends_bit_identical(tmp_path: Path, kills: int, options: tuple[str, ...]) -> None:
    killed = killed_run(tmp_path, kills, *options)
    assert killed >= 1
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert weights_hash(parts) == weights_hash(whole)
    assert logged_steps(parts) == logged_steps(whole)
