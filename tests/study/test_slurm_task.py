"""What a task does when the cluster wants its node, with worker processes that need no torch."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from test_launch import FAKE, job, wait_until

from vislab.study import slurm_task
from vislab.study.declare import Paper
from vislab.study.launch import launch_from
from vislab.study.slurm_task import JobTask, OneJob, ProgressFile, ScriptTask


@pytest.fixture(autouse=True)
def signals() -> Iterator[list[int]]:
    """SIGUSR2 as submitit has it: noted, with which it would have the task queued again."""
    queued: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: queued.append(number)), signal.getsignal(signal.SIGTERM)
    yield queued
    signal.signal(signal.SIGUSR2, before[0])
    signal.signal(signal.SIGTERM, before[1])


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_task, "launch_from", partial(launch_from, command=FAKE))


def task(paper: Paper, folder: Path, seed: int) -> JobTask:
    return JobTask(job(paper, seed), folder, "cpu", folder / "progress.json")


def tell_waiting_worker(folder: Path, number: int) -> None:
    """Send the signal to this process once a worker is at work on a run that waits."""

    def tell() -> None:
        wait_until(lambda: bool(list(folder.glob("waiting-*"))))
        os.kill(os.getpid(), number)

    threading.Thread(target=tell, daemon=True).start()


def test_a_job_is_done_and_its_progress_told(paper: Paper, tmp_path: Path, workers: None, signals: list[int]) -> None:
    task(paper, tmp_path, 0)()
    told = json.loads((tmp_path / "progress.json").read_text())
    assert (told["times"], told["stage"], told["notices"]) == (1, "starting", [])
    assert not signals


def test_a_failed_run_fails_the_task(paper: Paper, tmp_path: Path, workers: None) -> None:
    with pytest.raises(SystemExit) as end:
        task(paper, tmp_path, 10)()
    assert end.value.code == 1


def test_at_sigusr2_the_worker_is_stopped_and_the_task_queued_again(
    paper: Paper, tmp_path: Path, workers: None, signals: list[int]
) -> None:
    one = task(paper, tmp_path, 13)
    tell_waiting_worker(tmp_path, signal.SIGUSR2)
    one()
    assert signals == [signal.SIGUSR2]
    (pid,) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("waiting-*"))
    assert not Path(f"/proc/{pid}").exists()
    assert not list(tmp_path.rglob("failure.json"))


def test_a_worker_that_falls_with_sigterm_is_no_failure_and_started_again(
    paper: Paper, tmp_path: Path, workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both get the signal; the task lives on, and the worker, which would have left a checkpoint, comes again."""
    monkeypatch.setattr(slurm_task, "SECONDS_OF_GRACE", 1.5)
    one = task(paper, tmp_path, 13)

    def take_the_node_and_think_better_of_it() -> None:
        wait_until(lambda: len(list(tmp_path.glob("waiting-*"))) == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(int(next(tmp_path.glob("waiting-*")).name.partition("-")[2]), signal.SIGTERM)
        wait_until(lambda: len(list(tmp_path.glob("waiting-*"))) == 2)
        os.kill(os.getpid(), signal.SIGUSR2)

    threading.Thread(target=take_the_node_and_think_better_of_it, daemon=True).start()
    one()
    assert not list(tmp_path.rglob("failure.json"))


def test_a_worker_that_is_killed_alone_is_a_failure(paper: Paper, tmp_path: Path, workers: None) -> None:
    with pytest.raises(SystemExit):
        task(paper, tmp_path, 11)()
    assert list(tmp_path.rglob("failure.json"))


def test_nothing_is_started_while_the_cluster_may_still_kill(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    one = OneJob(job(paper, 0))
    one.told_to_end()
    assert one.next() is None and 0 < (one.pause() or 0) <= slurm_task.SECONDS_OF_GRACE
    now = time.monotonic()
    monkeypatch.setattr("vislab.study.slurm_task.time.monotonic", lambda: now + slurm_task.SECONDS_OF_GRACE + 1)
    assert one.next() is not None and one.next() is None and one.pause() is None


def test_progress_is_thinned_and_goes_on_in_the_next_start(paper: Paper, tmp_path: Path) -> None:
    path, now = tmp_path / "progress.json", iter([0.0, 1.0, 3.0, 3.0, 4.0, 5.0])
    one = job(paper, 0)
    display = ProgressFile(path, clock=lambda: next(now))
    display.started(one)
    for step in (1, 2):
        display.progress(one, {"stage": "train", "step": step, "total": 4, "loss": 1.0})
    assert json.loads(path.read_text())["step"] == 2
    display.progress(one, {"stage": "train", "step": 3, "total": 4, "loss": 1.0})
    assert json.loads(path.read_text())["step"] == 2
    display.notice(one, "waits")
    again = ProgressFile(path)
    again.started(one)
    told = json.loads(path.read_text())
    assert told["times"] == 2 and told["notices"] == ["waits"] and told["step"] == 0


def test_a_script_takes_part_until_it_is_told_to_stop(tmp_path: Path, signals: list[int]) -> None:
    (tmp_path / "a_script_of_a_task.py").write_text(
        "import os, signal, time\n"
        "def work(options):\n"
        "    try:\n"
        "        os.kill(os.getpid(), options['signal'])\n"
        "        time.sleep(5)\n"
        "    except KeyboardInterrupt:\n"
        "        return True\n"
        "    return False\n"
    )
    path = list(sys.path)
    ScriptTask(tmp_path / "a_script_of_a_task.py", "work", {"signal": signal.SIGUSR2})()
    sys.path[:] = path
    assert signals == [signal.SIGUSR2]


def test_submitit_is_given_the_same_again(paper: Paper, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install -e '.[slurm]')")
    one = task(paper, tmp_path, 0)
    assert one.checkpoint().function is one
