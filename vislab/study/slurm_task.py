"""What an array's task does on its node: one job with a worker of its own, or taking part in a sweep.

Slurm sends a task SIGTERM when it takes the node away, and SIGUSR2 some time before that or before the task's time is
up, to all of its processes. Trainings write a checkpoint at either (`engine.stopping`). At SIGUSR2 the task ends and is
queued again, submitit's way; SIGTERM it survives, as whoever ends by himself is not queued again: it goes on until it
is killed. Either way it goes on from that checkpoint, on whatever node it gets.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from vislab.records import RunStore, read_json, write_json
from vislab.study.launch import JobList, Outcome, launch_from
from vislab.study.plan import Job

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

SECONDS_BETWEEN_WRITES = 2.0
SECONDS_OF_GRACE = 60.0  # between SIGTERM and being killed; who lives longer works on


class ClusterTask:
    """What submitit calls. The same again when it is queued again."""

    def __call__(self) -> None:
        raise NotImplementedError

    def checkpoint(self) -> DelayedSubmission:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class JobTask(ClusterTask):
    """A table's job. progress: the file that tells how far it is. processes: that share each run."""

    job: Job
    store: Path
    device: str
    progress: Path
    processes: int = 1

    def __call__(self) -> None:
        source, display = OneJob(self.job), ProgressFile(self.progress)
        outcome = Outcome()

        def work() -> bool:
            nonlocal outcome
            outcome = launch_from(
                source, RunStore(self.store), display, device=self.device, parallel=1, processes=self.processes
            )
            return outcome.interrupted

        signal.signal(signal.SIGTERM, source.told_to_end)
        until_told_to_stop(work)
        if outcome.failed:
            sys.exit(1)  # the errors are in the store; this is for the cluster's own books


@dataclass(frozen=True)
class ScriptTask(ClusterTask):
    """Calls `function` of a script with `options`; it returns whether Ctrl-C ended it."""

    script: Path
    function: str
    options: Mapping[str, Any]

    def __call__(self) -> None:
        sys.path.insert(0, str(self.script.parent))
        function = getattr(importlib.import_module(self.script.stem), self.function)
        until_told_to_stop(lambda: function(dict(self.options)))


def until_told_to_stop(work: Callable[[], bool]) -> None:
    """SIGUSR2 is Ctrl-C to `work`, which returns whether there was one; then submitit has the task queued again."""
    queue_again = signal.getsignal(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, _interrupt)
    try:
        interrupted = work()
    except KeyboardInterrupt:  # before there was anything to stop
        interrupted = True
    if interrupted and callable(queue_again):
        queue_again(signal.SIGUSR2, None)
    signal.signal(signal.SIGUSR2, queue_again)


def _interrupt(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough, and must not disturb the stopping
    raise KeyboardInterrupt


class OneJob(JobList):
    """A job whose worker ended because the cluster told all processes to, this one included, is tried again."""

    def __init__(self, job: Job) -> None:
        super().__init__([job])
        self._told: float | None = None

    def told_to_end(self, *_: object) -> None:
        self._told = time.monotonic()

    def next(self) -> Job | None:
        return None if self._seconds_of_grace() else super().next()

    def pause(self) -> float | None:
        return (self._seconds_of_grace() or 0.1) if self._waiting else None

    def died(self, job: Job, sentence: str) -> bool:
        time.sleep(1.0)  # the signal may reach this process after the worker
        if self._told is None:
            return False
        self._waiting.append(job)
        return True

    def _seconds_of_grace(self) -> float:
        return 0.0 if self._told is None else max(0.0, self._told + SECONDS_OF_GRACE - time.monotonic())


class ProgressFile:
    """A display (`launch.Display`) that writes what `slurm_watch` reads on another machine.

    {"times": how often the task was started, "stage", "step", "total", "loss", "notices": all so far}
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.clock = path, clock
        before: dict[str, Any] = read_json(path) if path.exists() else {"times": 0, "notices": []}
        self.told: dict[str, Any] = {"times": before["times"] + 1, "notices": before["notices"]}
        self.written = -SECONDS_BETWEEN_WRITES

    def started(self, job: Job) -> None:
        self._tell(stage="starting", step=0, total=job.runs[0].train.steps, loss=None)

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        if event["step"] >= event["total"] or self.clock() - self.written >= SECONDS_BETWEEN_WRITES:
            self._tell(**{name: event.get(name) for name in ("stage", "step", "total", "loss")})

    def notice(self, job: Job, text: str) -> None:
        self._tell(notices=[*self.told["notices"], text])

    def failed(self, job: Job, sentence: str) -> None:
        pass  # the store says so

    def finished(self, job: Job, succeeded: bool) -> None:
        pass

    def _tell(self, **news: Any) -> None:
        self.told |= news
        self.written = self.clock()
        write_json(self.path, self.told | {"node": os.uname().nodename})
