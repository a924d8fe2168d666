"""Works off jobs with worker processes: as many at a time as asked for, nothing lost when they or we are killed.

What is done is decided by the run store alone (result.json), never by this process. A job that fails is noted and the
others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vislab.config import to_dict
from vislab.records import RunStore, write_json
from vislab.study.plan import Job
from vislab.study.torchrun import started_by_torchrun
from vislab.study.worker import TEAM_FAILED

WORKER = (sys.executable, "-m", "vislab.study.worker")
SECONDS_TO_SAVE = 60.0  # a checkpoint, by a training that is told to stop
SECONDS_TO_STOP = 10.0
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


class Display(Protocol):
    """What the launcher tells whoever watches."""

    def started(self, job: Job) -> None: ...

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        """event: stage ("train", "infer" or "score"), step, total, loss (None outside of training)."""
        ...

    def notice(self, job: Job, text: str) -> None: ...

    def failed(self, job: Job, sentence: str) -> None:
        """A run of the job failed; called before `finished`, which tells the end of every job."""
        ...

    def finished(self, job: Job, succeeded: bool) -> None: ...


class JobSource(Protocol):
    """Where jobs come from, and who is told what became of them."""

    def next(self) -> Job | None:
        """The next job to start; None if there is none at the moment."""
        ...

    def pause(self) -> float | None:
        """Seconds after which there may be another job though nothing has happened here; None: ask again when a job
        has ended."""
        ...

    def reported(self, job: Job, event: dict[str, Any]) -> None:
        """A paused run's number: event has step and value."""
        ...

    def died(self, job: Job, sentence: str) -> bool:
        """The worker was killed at the job. True: it will come again, False: its runs have failed."""
        ...

    def ended(self, job: Job, failed: dict[tuple[str, str], str]) -> None:
        """failed: (train_key, eval_key) -> the error's sentence."""
        ...


class JobList:
    """Jobs that are known from the start, each tried once."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = deque(jobs)

    def next(self) -> Job | None:
        return self._waiting.popleft() if self._waiting else None

    def pause(self) -> float | None:
        return None

    def reported(self, job: Job, event: dict[str, Any]) -> None:
        pass

    def died(self, job: Job, sentence: str) -> bool:
        return False

    def ended(self, job: Job, failed: dict[tuple[str, str], str]) -> None:
        pass


@dataclass
class Outcome:
    """What a launch came to. failed: (train_key, eval_key) -> the error's sentence."""

    finished: list[Job] = field(default_factory=list)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass
class Worker:
    """A worker process, its place among those side by side, the job that it works on, and the runs of it that it
    reported as done or failed."""

    process: subprocess.Popen[str]
    slot: int = 0
    job: Job | None = None
    settled: set[int] = field(default_factory=set)


def failure_path(store: RunStore, train_key: str, eval_key: str) -> Path:
    """Where the sentence of a failed run lies; reports read it from there."""
    return store.eval_dir(train_key, eval_key) / "failure.json"


def log_path(store: RunStore, job: Job) -> Path:
    """Whatever the libraries of a worker print."""
    return store.train_dir(job.train_key) / "worker.log"


def launch(
    jobs: Sequence[Job],
    store: RunStore,
    display: Display,
    *,
    device: str,
    parallel: int,
    processes: int = 1,
    command: Sequence[str] = WORKER,
) -> Outcome:
    """Run all jobs, `parallel` at a time. Ctrl-C stops the workers, trainings at a checkpoint, and returns with
    `interrupted` set.

    Failures are written beside the runs (failure.json) and removed when the run succeeds. A CPU worker uses one thread:
    two such workers do more than one with two threads, and numbers do not depend on how many run side by side.

    processes: that share each run (`team_worker`). GPUs are dealt out to those that run side by side. Under torchrun
    the processes are there already (`torchrun`), all of them for one run at a time.
    """
    return launch_from(
        JobList(jobs), store, display, device=device, parallel=parallel, processes=processes, command=command
    )


def launch_from(
    source: JobSource,
    store: RunStore,
    display: Display,
    *,
    device: str,
    parallel: int,
    processes: int = 1,
    command: Sequence[str] = WORKER,
) -> Outcome:
    """The same with jobs that are made as it goes."""
    assert parallel >= 1 and processes >= 1, (parallel, processes)
    if processes > 1:
        command = (sys.executable, "-m", "vislab.study.team_worker", str(processes), *command)
    pool = _Pool(source, store, display, device, command, processes)
    try:
        pool.work_off(1 if started_by_torchrun() else parallel)
    except KeyboardInterrupt:
        pool.outcome.interrupted = True
    finally:
        pool.stop()
    return pool.outcome


class _Pool:
    """Worker processes. One that is done with a job takes the next; one that dies is replaced."""

    def __init__(
        self, source: JobSource, store: RunStore, display: Display, device: str, command: Sequence[str], processes: int
    ) -> None:
        self.source, self.processes = source, processes
        self.store, self.display, self.device, self.command = store, display, device, command
        self.outcome = Outcome()
        self.workers: dict[int, Worker] = {}
        self.messages: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()

    def work_off(self, parallel: int) -> None:
        while True:
            self._assign_all(parallel)
            pause = self.source.pause()
            if pause is None and not any(worker.job for worker in self.workers.values()):
                return
            try:
                pid, event = self.messages.get(timeout=pause)
            except queue.Empty:
                continue
            if event is None:
                self._take_exit(self.workers.pop(pid))
                if started_by_torchrun():  # the other processes, which are not ours to start, end with this one
                    return
            else:
                self._take_event(event, self.workers[pid])

    def _assign_all(self, parallel: int) -> None:
        """Give jobs to workers that have none, and to new ones."""
        idle = [worker for worker in self.workers.values() if worker.job is None]
        while (idle or len(self.workers) < parallel) and (job := self.source.next()) is not None:
            self._assign(job, idle.pop() if idle else self._start())

    def stop(self) -> None:
        """Let trainings write a checkpoint, then cut the lifelines, wait, and kill what is still there."""
        busy = [worker.process for worker in self.workers.values() if worker.job is not None]
        for process in busy:
            process.terminate()
        deadline = time.monotonic() + SECONDS_TO_SAVE
        for process in busy:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for worker in self.workers.values():
            _close(worker.process)
        for worker in self.workers.values():
            try:
                worker.process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _start(self) -> Worker:
        """A worker in a session of its own: Ctrl-C reaches this process only, which then stops the workers."""
        slot = min(set(range(len(self.workers) + 1)) - {worker.slot for worker in self.workers.values()})
        gpus = gpus_of(slot, self.processes) if self.device == "cuda" and not started_by_torchrun() else {}
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=os.environ | ONE_THREAD | gpus,
        )
        threading.Thread(target=_forward, args=(process, self.messages), daemon=True).start()
        worker = self.workers[process.pid] = Worker(process, slot)
        return worker

    def _assign(self, job: Job, worker: Worker) -> None:
        worker.job, worker.settled = job, set()
        self.display.started(job)
        self._send(job, worker)

    def _send(self, job: Job, worker: Worker) -> None:
        log = log_path(self.store, job).resolve()
        log.parent.mkdir(parents=True, exist_ok=True)
        described = {
            "runs": [to_dict(run) for run in job.runs],
            "keys": [job.keys(run) for run in range(len(job.runs))],
            "store": str(Path(self.store.root).resolve()),
            "device": self.device,
            "threads": 1,
            "log": str(log),
            "pause_at": job.pause_at,
            "tracking": job.tracking,
            "sinks": job.sinks,
            "settled": sorted(worker.settled),
        }
        assert worker.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a worker that has died is reported by its exit
            worker.process.stdin.write(json.dumps(described) + "\n")
            worker.process.stdin.flush()

    def _take_event(self, event: dict[str, Any], worker: Worker) -> None:
        job = worker.job
        assert job is not None
        if event["event"] == "progress":
            self.display.progress(job, event)
        elif event["event"] == "notice":
            self.display.notice(job, event["text"])
        elif event["event"] == "paused":
            self.source.reported(job, event)
            worker.settled.add(event["run"])
        elif event["event"] == "failed":
            self._note_failure(job, event["run"], event["error"])
            worker.settled.add(event["run"])
        elif event["event"] == "done":
            failure_path(self.store, *job.keys(event["run"])).unlink(missing_ok=True)
            self.outcome.failed.pop(job.keys(event["run"]), None)
            worker.settled.add(event["run"])
        else:
            self._finish(worker)

    def _take_exit(self, worker: Worker) -> None:
        """Runs that the worker left without a word failed with it; but a team reports one and leaves the others."""
        _close(worker.process)
        if worker.job is None:
            return
        reported = worker.process.returncode == TEAM_FAILED and len(worker.settled) > 0
        if reported and started_by_torchrun():  # nothing can be started anew; what is left has not been tried
            self._finish(worker)
            return
        if reported and len(worker.settled) < len(worker.job.runs):
            following = self._start()
            following.job, following.settled = worker.job, worker.settled
            self._send(worker.job, following)
            return
        sentence = _death_sentence(worker.process.returncode)
        if worker.process.returncode < 0 and self.source.died(worker.job, sentence):
            self.display.notice(worker.job, f"{sentence}; it is tried again")
            worker.job = None
            return
        for run in range(len(worker.job.runs)):
            if run not in worker.settled:
                self._note_failure(worker.job, run, sentence)
        self._finish(worker)

    def _finish(self, worker: Worker) -> None:
        job, worker.job = worker.job, None
        assert job is not None
        keys = [job.keys(run) for run in range(len(job.runs))]
        failed = {key: self.outcome.failed[key] for key in keys if key in self.outcome.failed}
        if not failed:
            self.outcome.finished.append(job)
        self.display.finished(job, not failed)
        self.source.ended(job, failed)

    def _note_failure(self, job: Job, run: int, sentence: str) -> None:
        write_json(failure_path(self.store, *job.keys(run)), {"error": sentence})
        self.outcome.failed[job.keys(run)] = sentence
        self.display.failed(job, sentence)


def gpus_of(slot: int, processes: int) -> dict[str, str]:
    """The variable that gives a worker its GPUs, of those that this process may use; none if it may have them all."""
    from torch.cuda import device_count

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if visible != [""] else [str(index) for index in range(device_count())]
    if len(names) <= processes:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[(slot * processes + i) % len(names)] for i in range(processes))}


def _forward(process: subprocess.Popen[str], messages: queue.Queue[Any]) -> None:
    """Put every event of a worker, then None for its end, into the queue."""
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(json.JSONDecodeError):  # half a line, from a worker killed while it wrote
            messages.put((process.pid, json.loads(line)))
    process.wait()
    messages.put((process.pid, None))


def _death_sentence(code: int) -> str:
    if code >= 0:
        return f"the worker ended with code {code}; the run's worker.log in the run store says more"
    name = signal.Signals(-code).name
    hint = ", which the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the worker was killed by {name}{hint}"


def _close(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
