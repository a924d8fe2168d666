"""kill -9 at random moments of a sweep: nothing is lost, done twice or left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from postgres_server import postgres_server

SCRIPT = Path(__file__).parent / "killed_sweep.py"


def killed_sweep(folder: Path, kills: int, cells: int, pause: float, url: str, *options: str, seconds: float) -> Any:
    command = [sys.executable, str(SCRIPT), str(folder), str(kills), str(cells), str(pause), url, *options]
    environment = os.environ | {"SWEEP_SECONDS": str(seconds), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, Any], least_kills: int) -> None:
    """Every cell once, all of them complete, no row beside them."""
    assert found["processes"] + found["workers"] >= least_kills
    assert Counter(found["states"]) == {"COMPLETE": len(found["cells"])}
    assert sorted(map(str, found["points"])) == sorted(map(str, found["cells"]))


def check_work(folder: Path, cells: int) -> None:
    """No training and no evaluation was brought to its end twice."""
    lines = Counter((folder / "runs" / "done.txt").read_text().splitlines())
    assert set(lines.values()) == {1}
    words = Counter(line.split()[0] for line in lines)
    assert words == {"trained": cells // 2, "evaluated": cells}


def test_a_killed_sweep_ends_whole(tmp_path: Path) -> None:
    found = killed_sweep(tmp_path, 5, 8, 0.3, f"sqlite:///{tmp_path}/sweeps.db", seconds=0.4)
    check(found, 1)  # on a slow machine the sweep may end before the fifth
    check_work(tmp_path, 8)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "postgresql"])
def test_fifty_kills_of_runs_that_train(tmp_path: Path, storage: str) -> None:
    """That a run which was killed ends bit by bit as one that was not is tested in tests/engine/test_kill.py."""
    if storage == "sqlite":
        found = killed_sweep(tmp_path, 50, 100, 4.0, f"sqlite:///{tmp_path}/sweeps.db", "--real", seconds=0)
    else:
        with postgres_server() as url:
            found = killed_sweep(tmp_path, 50, 100, 4.0, url, "--real", seconds=0)
    check(found, 50)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["postgresql", "journal"])
def test_fifty_kills_of_runs_that_do_nothing(tmp_path: Path, storage: str) -> None:
    if storage == "journal":
        found = killed_sweep(tmp_path, 50, 120, 0.4, f"journal:///{tmp_path}/sweeps.log", seconds=1.5)
    else:
        with postgres_server() as url:
            found = killed_sweep(tmp_path, 50, 120, 0.4, url, seconds=1.5)
    check(found, 50)
    check_work(tmp_path, 120)
