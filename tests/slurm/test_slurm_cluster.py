"""Tables and sweeps through a real Slurm, of one node: `pytest -m slurm`."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from slurm_node import NoSlurm, slurm_node
from slurm_table import LONG_STEPS

pytestmark = pytest.mark.slurm
TABLE = [sys.executable, str(Path(__file__).with_name("slurm_table.py")), "--device", "cpu"]
SWEEP = [sys.executable, str(Path(__file__).parents[2] / "experiments" / "sweep.py"), "taformer", "--device", "cpu"]
STARTED: list[subprocess.Popen[bytes]] = []  # commands, which must not outlive a failed test


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of a cluster; the tests are skipped, and say why, where there can be none."""
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed (pip install -e '.[slurm]')")
    try:
        with slurm_node() as environment:
            yield {**environment, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
            for process in STARTED:
                process.kill()
                process.wait()
    except NoSlurm as error:
        pytest.skip(str(error))


def wait_for(found: Callable[[], Any], process: subprocess.Popen[bytes] | None = None, seconds: float = 600) -> Any:
    """What `found` returns, once that is true; the process must go on meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        assert process is None or process.poll() is None, "the command has ended"
        time.sleep(0.1)
    raise AssertionError(f"waited for {seconds:.0f} seconds in vain")


def start(command: list[str], cluster: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("ab") as file:
        STARTED.append(subprocess.Popen(command, env=cluster, stdout=file, stderr=file))
    return STARTED[-1]


def slurm(cluster: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=cluster, check=True, capture_output=True, text=True).stdout


def progress(runs: Path) -> list[dict[str, Any]]:
    """What the tasks of all submissions say of themselves."""
    return [json.loads(path.read_text()) for path in runs.glob("slurm/*/progress-*.json")]


def long_one(runs: Path) -> dict[str, Any] | None:
    """The task of the long training, once it is in the middle of it."""
    found = [told for told in progress(runs) if told.get("total") == LONG_STEPS and told["stage"] == "train"]
    return found[0] if found and 5 <= found[0]["step"] < LONG_STEPS else None


def saved_steps(runs: Path) -> list[int]:
    """Of the long training's checkpoints; the others are over by then, or have fewer steps."""
    steps = sorted(json.loads(path.read_text())["step"] for path in runs.glob("*/checkpoint-*.json"))
    return [step for step in steps if step >= 5]


def records(runs: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Of every finished run: hash of its weights, and its numbers."""
    found = {}
    for path in runs.glob("*/eval/*/result.json"):
        trained = json.loads((path.parents[2] / "trained.json").read_text())
        found[path.parent.name + path.parents[2].name] = (
            trained["weights_sha256"],
            json.loads(path.read_text())["metrics"],
        )
    return found


def test_a_table_outlives_ctrl_c_and_a_preemption_and_equals_a_local_one(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    runs, output = tmp_path / "runs", tmp_path / "output.txt"
    command = [*TABLE, "--reports", str(tmp_path / "reports"), "--runs", str(runs), "--launcher", "slurm"]
    command += ["--partition", "batch", "--time-limit", "0:30:00"]

    first = start(command, cluster, output)
    wait_for(lambda: "4 of 4 runs submitted" in output.read_text(), first)
    first.send_signal(signal.SIGINT)
    assert first.wait(600) == 130
    assert "the same command watches them again" in output.read_text()

    second = start(command, cluster, output)
    wait_for(lambda: "0 of 4 runs submitted, 4 were before" in output.read_text(), second)
    wait_for(lambda: long_one(runs), second)
    slurm(cluster, "sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 1")
    saved = wait_for(lambda: saved_steps(runs))[0]
    again = wait_for(lambda: next((told for told in progress(runs) if told["times"] == 2 and told["step"]), None))
    assert 5 <= saved < again["step"] <= LONG_STEPS
    assert second.wait(600) == 0, output.read_text()
    assert "the cluster took its node" in output.read_text()
    assert len(list(runs.glob("slurm/*/submission.json"))) == 1

    local = subprocess.run([*TABLE, "--reports", str(tmp_path / "r"), "--runs", str(tmp_path / "local")], env=cluster)
    assert local.returncode == 0
    assert len(records(runs)) == 4 and records(runs) == records(tmp_path / "local")
    tables = [pd.read_csv(tmp_path / folder / "smoke/taformer/T3.csv") for folder in ("reports", "r")]
    pd.testing.assert_series_equal(*(table.loc[table["metric"].str.startswith("AP"), "measured"] for table in tables))


def test_a_task_told_that_its_time_is_up_is_queued_again(cluster: dict[str, str], tmp_path: Path) -> None:
    """SIGUSR2, as Slurm sends it before the time limit."""
    runs, output = tmp_path / "runs", tmp_path / "output.txt"
    command = [*TABLE, "--rows", "1", "--reports", str(tmp_path / "reports"), "--runs", str(runs)]
    process = start([*command, "--launcher", "slurm"], cluster, output)
    wait_for(lambda: long_one(runs), process)
    job = slurm(cluster, "squeue", "--noheader", "--format=%A").split()[0]
    slurm(cluster, "scancel", "--signal=USR2", job)
    saved = wait_for(lambda: saved_steps(runs))[0]
    again = wait_for(lambda: next((told for told in progress(runs) if told["times"] == 2 and told["step"]), None))
    assert 5 <= saved < again["step"] <= LONG_STEPS
    assert process.wait(600) == 0, output.read_text()


def test_a_sweep_is_shared_by_tasks_one_of_which_is_stopped(cluster: dict[str, str], tmp_path: Path) -> None:
    runs, output = tmp_path / "runs", tmp_path / "output.txt"
    command = [*SWEEP, "--over", "k_inter=1,2", "clip_length=2,3", "--scale", "smoke", "--data", "synthetic-ytvis19"]
    command += ["--reports", str(tmp_path / "reports"), "--runs", str(runs), "--launcher", "slurm", "--jobs", "2"]
    process = start(command, cluster, output)
    wait_for(lambda: len(list(runs.glob("*/worker.log"))) >= 2, process)
    job = slurm(cluster, "squeue", "--noheader", "--array", "--states=RUNNING", "--format=%F_%K").split()[0]
    slurm(cluster, "scancel", "--signal=USR2", job)
    assert process.wait(900) == 0, output.read_text()
    found = pd.read_csv(next(tmp_path.glob("reports/smoke/taformer/sweeps/*/trials.csv")))
    assert len(found) == 4 and set(found["state"]) == {"complete"}, found
    assert "2 tasks submitted" in output.read_text()


def test_what_the_cluster_refuses_is_one_sentence(cluster: dict[str, str], tmp_path: Path) -> None:
    command = [*TABLE, "--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports"), "--launcher", "slurm"]
    done = subprocess.run([*command, "--partition", "nowhere"], env=cluster, capture_output=True, text=True)
    assert done.returncode == 2
    assert "sbatch refused" in done.stderr and "partition" in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("runs/slurm/*/"))
