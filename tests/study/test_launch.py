"""The launcher with workers that speak the protocol but do nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vislab.records import RunStore, write_json
from vislab.study.declare import Paper
from vislab.study.launch import failure_path, launch
from vislab.study.plan import Job, on_dataset

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


class Recorder:
    """A display that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def started(self, job: Job) -> None:
        self.calls.append(("started", job.seed))

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        self.calls.append(("progress", job.seed, event["stage"], event["step"], event["loss"]))

    def notice(self, job: Job, text: str) -> None:
        self.calls.append(("notice", job.seed, text))

    def failed(self, job: Job, sentence: str) -> None:
        self.calls.append(("failed", job.seed, sentence))

    def finished(self, job: Job, succeeded: bool) -> None:
        self.calls.append(("finished", job.seed, succeeded))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == kind]


def job(paper: Paper, *seeds: int) -> Job:
    base = on_dataset(paper.base("tiny"), "synthetic-ytvis19")
    runs = tuple(replace(base, seed=seed) for seed in seeds)
    return Job(runs[0].train_key, "row", "data", seeds[0], runs)


def run(paper: Paper, store: RunStore, *jobs: Job, parallel: int = 2) -> tuple[Any, Recorder]:
    display = Recorder()
    return launch(jobs, store, display, device="cpu", parallel=parallel, command=FAKE), display


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited for two minutes in vain")


def test_all_jobs_are_done_and_shown(paper: Paper, tmp_path: Path) -> None:
    jobs = [job(paper, seed) for seed in range(5)]
    outcome, display = run(paper, RunStore(tmp_path), *jobs)
    assert sorted(done.seed for done in outcome.finished) == [0, 1, 2, 3, 4]
    assert not outcome.failed and not outcome.interrupted
    assert [seed for (seed,) in display.of("started")] == [0, 1, 2, 3, 4]
    assert (0, "train", 1, 0.5) in display.of("progress")
    assert all(succeeded for _, succeeded in display.of("finished"))


def test_workers_are_used_again_and_not_more_than_asked_for(paper: Paper, tmp_path: Path) -> None:
    run(paper, RunStore(tmp_path), *(job(paper, seed) for seed in range(6)), parallel=2)
    assert 1 <= len(list(tmp_path.glob("worker-*"))) <= 2


def test_failures_are_noted_and_the_others_go_on(paper: Paper, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    jobs = [job(paper, seed) for seed in (10, 11, 12, 14, 0)]
    outcome, display = run(paper, store, *jobs)
    assert [done.seed for done in outcome.finished] == [0]
    sentences = {failed.seed: outcome.failed[failed.keys(0)] for failed in jobs[:4]}
    assert sentences[10] == "the loss is not finite"
    assert "SIGKILL" in sentences[11] and "memory" in sentences[11]
    assert "code 3" in sentences[12] and "worker.log" in sentences[12]
    assert "SIGKILL" in sentences[14]
    for failed in jobs[:4]:
        noted = json.loads(failure_path(store, *failed.keys(0)).read_text())
        assert noted == {"error": sentences[failed.seed]}
    assert sorted(seed for seed, succeeded in display.of("finished") if not succeeded) == [10, 11, 12, 14]
    assert not failure_path(store, *jobs[4].keys(0)).exists()


def test_one_failed_run_does_not_take_its_job_along(paper: Paper, tmp_path: Path) -> None:
    shared = job(paper, 0, 10, 1)
    outcome, _ = run(paper, RunStore(tmp_path), shared)
    assert list(outcome.failed) == [shared.keys(1)]


def test_runs_that_a_dead_worker_left_failed_with_it(paper: Paper, tmp_path: Path) -> None:
    shared = job(paper, 0, 11, 1)
    outcome, _ = run(paper, RunStore(tmp_path), shared)
    assert set(outcome.failed) == {shared.keys(1), shared.keys(2)}


def test_success_removes_an_old_failure(paper: Paper, tmp_path: Path) -> None:
    store, again = RunStore(tmp_path), job(paper, 0)
    write_json(failure_path(store, *again.keys(0)), {"error": "old"})
    run(paper, store, again)
    assert not failure_path(store, *again.keys(0)).exists()


def test_a_command_that_does_not_start_workers_fails_the_job(paper: Paper, tmp_path: Path) -> None:
    broken = job(paper, 0)
    command = (sys.executable, "-c", "raise SystemExit(5)")
    outcome = launch([broken], RunStore(tmp_path), Recorder(), device="cpu", parallel=1, command=command)
    assert "code 5" in outcome.failed[broken.keys(0)]


def test_ctrl_c_stops_the_workers_and_notes_no_failure(paper: Paper, tmp_path: Path, heeds_ctrl_c: None) -> None:
    """The signal arrives while two workers are busy."""
    store = RunStore(tmp_path)

    def interrupt() -> None:
        wait_until(lambda: len(list(tmp_path.glob("waiting-*"))) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    first, second, third = job(paper, 13), replace(job(paper, 13), train_key="other"), job(paper, 0)
    outcome, _ = run(paper, store, first, second, third)
    assert outcome.interrupted and not outcome.finished and not outcome.failed
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("waiting-*")]
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_workers_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """kill -9 gives the parent no chance to say goodbye; the cut lifeline does."""
    code = (
        f"import subprocess, sys\np = subprocess.Popen({FAKE!r}, stdin=subprocess.PIPE, text=True)\n"
        f'p.stdin.write(\'{{"runs": [{{"seed": 13}}], "store": "{tmp_path}"}}\\n\'); p.stdin.flush()\n'
        "sys.stdout.write('ready'); sys.stdout.flush(); p.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    wait_until(lambda: bool(list(tmp_path.glob("waiting-*"))))
    (pid,) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("waiting-*"))
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
