"""The process that works on jobs: `python -m vislab.study.worker`, fed by `vislab.study.launch`.

Standard input carries one job per line, as JSON; its end is the end of the work. It is a lifeline, too: when the parent
dies, however it dies, the worker reads the end of the file and stops at once, so that no orphan goes on writing. What
is in the store is whole at every moment, and the next call resumes from the last checkpoint. Standard output carries
events, one JSON object per line: {"event": "progress" | "notice" | "paused" | "done" | "failed", "run": index of the
run in its job, ...}, and {"event": "idle"} after each job.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vislab.errors import UserError

if TYPE_CHECKING:
    from vislab.engine import RunConfig
    from vislab.records import RunStore

LIFELINE_CUT = 130
SECONDS_BETWEEN_EVENTS = 0.1


class EventStream:
    """Writes events to the parent, and nothing else: what libraries print to standard output goes to standard error."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(self, event: str, **fields: Any) -> None:
        self._stream.write(json.dumps({"event": event, **fields}) + "\n")


class EventWatcher:
    """What the engine reports of one run, as events; at most ten a second, but the last step of a stage always."""

    def __init__(self, events: EventStream, run: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._events, self._run, self._clock = events, run, clock
        self._last = -SECONDS_BETWEEN_EVENTS

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        now = self._clock()
        if step >= total or now - self._last >= SECONDS_BETWEEN_EVENTS:
            self._last = now
            self._events.send("progress", run=self._run, stage=stage, step=step, total=total, loss=loss)

    def notice(self, text: str) -> None:
        self._events.send("notice", run=self._run, text=text)


class Inbox:
    """Jobs as they arrive. The end of the stream ends the process, whatever it is doing."""

    def __init__(self, stream: TextIO) -> None:
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._busy = False
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def next(self) -> dict[str, Any]:
        """Wait for the next job; never returns when there is none to come."""
        job = self._jobs.get()
        self._busy = True
        return job

    def finished(self) -> None:
        """The job at hand is done: the end of the stream is now an orderly end."""
        self._busy = False

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self._jobs.put(json.loads(line))
        os._exit(LIFELINE_CUT if self._busy or not self._jobs.empty() else 0)


def error_sentence(error: BaseException) -> str:
    """What a table's footnote says about a failed row: a user error as it is, any other with its type."""
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def work(job: dict[str, Any], events: EventStream) -> None:
    """Execute the runs of a job in order and report how each ended."""
    from vislab.config import from_dict
    from vislab.engine import RunConfig
    from vislab.records import RunStore

    store = RunStore(Path(job["store"]))
    for index, described in enumerate(job["runs"]):
        try:
            run = from_dict(RunConfig, described)
            assert [run.train_key, run.eval_key] == job["keys"][index], "the worker's code is not that of its parent"
            found = _work_on(run, store, job, EventWatcher(events, index))
        except Exception as error:
            traceback.print_exc()
            events.send("failed", run=index, error=error_sentence(error))
        else:
            events.send("done" if job.get("pause_at") is None else "paused", run=index, **found)


def _work_on(run: RunConfig, store: RunStore, job: dict[str, Any], watcher: EventWatcher) -> dict[str, Any]:
    """One run to its end, or to where it pauses; fields of the event that says so."""
    from vislab.engine import execute
    from vislab.study.sweep_rungs import measure_at
    from vislab.study.sweep_tracking import track

    device, threads, step = job["device"], job["threads"], job.get("pause_at")
    if step is not None:
        return {"step": step, "value": measure_at(step, run, store, device, watcher, threads=threads)}
    execute(run, store, device, watcher, threads=threads)
    if job.get("tracking"):
        track(run, store, tuple(job["tracking"]), watcher)
    return {}


def redirect_log(path: str) -> None:
    """Append everything that is printed from now on to a file."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)


def main() -> None:
    events = EventStream()
    inbox = Inbox(sys.stdin)
    while True:
        job = inbox.next()
        redirect_log(job["log"])
        work(job, events)
        inbox.finished()
        events.send("idle")


if __name__ == "__main__":
    main()
