"""Runs that are shared by processes: the launcher starts them, notices who dies, and goes on with the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_launch import Recorder, wait_until

from vislab.engine.config import RunConfig
from vislab.records import RunStore
from vislab.study.declare import Paper
from vislab.study.launch import Outcome, failure_path, gpus_of, launch
from vislab.study.plan import Job, on_dataset
from vislab.study.torchrun import run_script

BREAKING = (sys.executable, str(Path(__file__).with_name("breaking_worker.py")))


def run_of(paper: Paper, seed: int = 0, top_k: int = 10, steps: int = 2) -> RunConfig:
    run = on_dataset(paper.base("tiny"), "synthetic-ytvis19")
    train = replace(run.train, batch_size=2, steps=steps, checkpoint_every=100)
    return replace(run, train=train, seed=seed, evaluation=replace(run.evaluation, top_k=top_k))


def job_of(*runs: RunConfig) -> Job:
    return Job(runs[0].train_key, "row", "data", runs[0].seed, runs)


class Timing(Recorder):
    """Remembers when runs failed."""

    def __init__(self) -> None:
        super().__init__()
        self.failed_at: list[float] = []

    def failed(self, job: Job, sentence: str) -> None:
        self.failed_at.append(time.time())
        super().failed(job, sentence)


def launched(store: RunStore, *jobs: Job) -> tuple[Outcome, Timing]:
    display = Timing()
    outcome = launch(jobs, store, display, device="cpu", parallel=1, processes=2, command=BREAKING)
    return outcome, display


def test_what_breaks_in_one_process_ends_that_run_alone(paper: Paper, tmp_path: Path) -> None:
    """The second run of the job breaks, the third one needs a new team, which finds the training done."""
    store = RunStore(tmp_path)
    job = job_of(*(run_of(paper, top_k=top_k) for top_k in (10, 3, 5)))
    outcome, display = launched(store, job)
    assert outcome.failed == {job.keys(1): "ValueError: it broke"}
    assert json.loads(failure_path(store, *job.keys(1)).read_text()) == {"error": "ValueError: it broke"}
    log = (store.train_dir(job.train_key) / "worker.log").read_text()
    assert "process 1 of 2:\nTraceback" in log and 'raise ValueError("it broke")' in log
    for index in (0, 2):
        result = store.result(*job.keys(index))
        assert result is not None and result["env"]["processes"] == 2
    assert display.of("started") == [(0,)] and display.of("finished") == [(0, False)]


@pytest.mark.slow
@pytest.mark.parametrize("broken", [{"seed": 2}, {"seed": 3, "top_k": 4}], ids=["training", "evaluation"])
def test_a_killed_process_ends_the_run_within_a_minute(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: dict[str, int]
) -> None:
    store, mark = RunStore(tmp_path / "runs"), tmp_path / "killed"
    monkeypatch.setenv("BREAKING_WORKER_MARK", str(mark))
    job = job_of(run_of(paper, **broken))
    outcome, display = launched(store, job)
    assert "the worker was killed by SIGKILL" in outcome.failed[job.keys(0)]
    assert display.failed_at[0] - mark.stat().st_mtime < 60


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_at_a_checkpoint(
    paper: Paper, tmp_path: Path, heeds_ctrl_c: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, mark = RunStore(tmp_path / "runs"), tmp_path / "started"
    job = job_of(run_of(paper, seed=5, steps=40))
    monkeypatch.setenv("BREAKING_WORKER_MARK", str(mark))

    def interrupt() -> None:
        wait_until(mark.exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    outcome, _ = launched(store, job)
    assert outcome.interrupted and not outcome.failed
    assert not subprocess.run(["pgrep", "-f", str(BREAKING[1])], capture_output=True, text=True).stdout
    (saved,) = store.train_dir(job.train_key).glob("checkpoint-*.json")
    assert 4 <= json.loads(saved.read_text())["step"] < 40
    outcome, display = launched(store, job)
    assert outcome.finished == [job]
    assert min(step for _, stage, step, _ in display.of("progress") if stage == "train") >= 4, "it went on"


SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from conftest import base
from test_launch import Recorder
from test_team_worker import job_of, run_of
from vislab.records import RunStore
from vislab.study.launch import launch
from vislab.study.torchrun import run_script

class Small:
    base = staticmethod(base)

def main():
    store, runs = RunStore(Path(sys.argv[1])), [run_of(Small, seed=seed) for seed in (0, 1)]
    for run in runs:  # two launches, each with a worker of its own in every process
        outcome = launch([job_of(run)], store, Recorder(), device="cpu", parallel=4)
        assert len(outcome.finished) == 1, outcome
        print("processes", store.result(run.train_key, run.eval_key)["env"]["processes"])
    return 7

if __name__ == "__main__":
    sys.exit(run_script(main))
"""


@pytest.mark.slow
def test_a_script_under_torchrun_on_two_machines(tmp_path: Path) -> None:
    """Two agents stand for the machines. The script runs once, its runs on all processes; its exit code counts."""
    here = Path(__file__).parent
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(paths=[str(here), str(here.parents[1])]))
    meeting = f"127.0.0.1:{29500 + os.getpid() % 1000}"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "0",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "--rdzv-id", "test", "--local-addr", "127.0.0.1",
        str(script), str(tmp_path / "runs"),
    ]  # fmt: skip
    nodes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        said = [node.communicate(timeout=900) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert sorted(out for out, _ in said) == ["", "processes 2\nprocesses 2\n"], said
    assert all(node.returncode == 1 and "exitcode  : 7" in err for node, (_, err) in zip(nodes, said, strict=True)), (
        said
    )


def test_without_torchrun_a_script_is_a_script() -> None:
    assert run_script(lambda: 3) == 3


def test_gpus_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert gpus_of(0, 2) == {"CUDA_VISIBLE_DEVICES": "4,5"}
    assert gpus_of(1, 2) == {"CUDA_VISIBLE_DEVICES": "6,7"}
    assert gpus_of(2, 2) == {"CUDA_VISIBLE_DEVICES": "4,5"}
    assert gpus_of(0, 4) == {} and gpus_of(3, 1) == {"CUDA_VISIBLE_DEVICES": "7"}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert gpus_of(1, 1) == {"CUDA_VISIBLE_DEVICES": "1"} and gpus_of(0, 2) == {}
