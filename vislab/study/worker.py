"""The process that works on jobs: `python -m vislab.study.worker`, fed by `vislab.study.launch`.

Standard input carries one job per line, as JSON; its end is the end of the work. It is a lifeline, too: when the parent
dies, however it dies, the worker reads the end of the file and stops at once, so that no orphan goes on writing. What
is in the store is whole at every moment, and the next call resumes from the last checkpoint. Standard output carries
events, one JSON object per line: {"event": "progress" | "notice" | "paused" | "done" | "failed", "run": index of the
run in its job, ...}, and {"event": "idle"} after each job.

Several of them may be a team (`vislab.engine.team`): rank 0 is fed and tells the others, and all work on the same run.
What fails in one of them ends them all, since the others wait for it; the launcher starts anew with what is left.
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
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TextIO

from vislab.errors import UserError
from vislab.records import RunStore, read_json, write_json
from vislab.study.torchrun import announce, meeting_place, started_by_torchrun

if TYPE_CHECKING:
    from vislab.engine import RunConfig
    from vislab.engine.team import Team

LIFELINE_CUT = 130
TEAM_FAILED = 75  # exit code: the failure was reported, what the job still has needs new workers
SECONDS_FOR_THE_FIRST = 5.0  # in which the process that failed first is found, before those that miss it speak up
SECONDS_BETWEEN_EVENTS = 0.1


class Events(Protocol):
    """Whoever is told how runs fare."""

    def send(self, event: str, **fields: Any) -> None: ...


class EventStream:
    """Writes events to the parent, and nothing else: what libraries print to standard output goes to standard error."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def send(self, event: str, **fields: Any) -> None:
        self._stream.write(json.dumps({"event": event, **fields}) + "\n")


class FailureFiles:
    """In place of events, of a team's process that has no launcher: failures are noted where reports read them."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    def send(self, event: str, **fields: Any) -> None:
        if event == "failed":
            write_json(_failure_path(self._job, fields["run"]), {"error": fields["error"]})


class FailuresOnly:
    """Events of a team's other processes: what they have to say beside rank 0."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def send(self, event: str, **fields: Any) -> None:
        if event == "failed":
            self._events.send(event, **fields)


class EventWatcher:
    """What the engine reports of one run, as events; at most ten a second, but the last step of a stage always."""

    def __init__(self, events: Events, run: int, clock: Callable[[], float] = time.monotonic) -> None:
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
    """Jobs as they arrive. The end of the stream ends the process, whatever it is doing; but if others are to be told
    of the end and there is no work, it is their last job: None."""

    def __init__(self, stream: TextIO, tells_end: bool = False) -> None:
        self._jobs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._busy, self._tells_end = False, tells_end
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def next(self) -> dict[str, Any] | None:
        """Wait for the next job; when there is none to come, it never returns, or returns None."""
        job = self._jobs.get()
        self._busy = True
        return job

    def finished(self) -> None:
        """The job at hand is done: the end of the stream is now an orderly end."""
        self._busy = False

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            self._jobs.put(json.loads(line))
        busy = self._busy or not self._jobs.empty()
        if busy or not self._tells_end:
            os._exit(LIFELINE_CUT if busy else 0)
        self._jobs.put(None)


def error_sentence(error: BaseException) -> str:
    """What a table's footnote says about a failed row: a user error as it is, any other with its type."""
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def work(job: dict[str, Any], events: Events) -> None:
    """Execute the runs of a job in order, but for those that are settled, and report how each ended."""
    from vislab.config import from_dict
    from vislab.engine import RunConfig
    from vislab.engine.team import current_team

    store, team = RunStore(Path(job["store"])), current_team()
    for index, described in enumerate(job["runs"]):
        if index in job.get("settled", ()):
            continue
        if team.size > 1 and team.leads:  # an old one would be taken for a new one
            _failure_path(job, index).unlink(missing_ok=True)
        try:
            run = from_dict(RunConfig, described)
            assert [run.train_key, run.eval_key] == job["keys"][index], "the worker's code is not that of its parent"
            found = _work_on(run, store, job, EventWatcher(events, index))
        except Exception as error:
            if team.size > 1:
                _fail_together(error, team, job, index, events)
            traceback.print_exc()
            events.send("failed", run=index, error=error_sentence(error))
        else:
            events.send("done" if job.get("pause_at") is None else "paused", run=index, **found)


def _fail_together(error: Exception, team: Team, job: dict[str, Any], run: int, events: Events) -> NoReturn:
    """Report an error and end the process, and with it the team."""
    from vislab.engine.stopping import Stopped
    from vislab.engine.team import is_lost_process

    print(f"process {team.rank} of {team.size}:", file=sys.stderr)
    traceback.print_exception(error)
    sys.stderr.flush()
    if isinstance(error, Stopped):  # another one was told to, and ends by the signal
        os._exit(LIFELINE_CUT)
    sentence = error_sentence(error)
    if is_lost_process(error):
        time.sleep(SECONDS_FOR_THE_FIRST)  # torchrun ends this process, unless the other one was on another machine
        noted = _failure_path(job, run)
        sentence = read_json(noted)["error"] if noted.exists() else f"another process of the run was lost ({sentence})"
    events.send("failed", run=run, error=sentence)
    os._exit(TEAM_FAILED)


def _failure_path(job: dict[str, Any], run: int) -> Path:
    from vislab.study.launch import failure_path

    return failure_path(RunStore(Path(job["store"])), *job["keys"][run])


def _work_on(run: RunConfig, store: RunStore, job: dict[str, Any], watcher: EventWatcher) -> dict[str, Any]:
    """One run to its end, or to where it pauses; fields of the event that says so."""
    from vislab.engine import execute
    from vislab.engine.team import current_team
    from vislab.study.sweep_rungs import measure_at
    from vislab.study.sweep_tracking import track

    device, step = job["device"], job.get("pause_at")
    how: dict[str, Any] = {"threads": job["threads"], "sinks": job.get("sinks", ())}
    if step is not None:
        return {"step": step, "value": measure_at(step, run, store, device, watcher, **how)}
    execute(run, store, device, watcher, **how)
    if job.get("tracking") and current_team().leads:
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
    if started_by_torchrun():
        work_as_team(events)
        return
    inbox = Inbox(sys.stdin)
    while (job := inbox.next()) is not None:
        _work_off(job, events, inbox)


def work_as_team(events: EventStream) -> None:
    """The same in one of several processes. An argument is the session's number, of a process that torchrun started for
    a script (`torchrun.run_script`); such a one has a standard input, but no launcher to report to."""
    from torch.distributed import PrefixStore

    from vislab.engine.team import join_team, leave_team

    rank, started_by_script = int(os.environ["RANK"]), len(sys.argv) > 1
    inbox = Inbox(sys.stdin, tells_end=rank == 0) if rank == 0 or started_by_script else None
    session = announce() if rank == 0 else int(sys.argv[1]) if started_by_script else 0
    team = join_team(PrefixStore(f"vislab {session}", meeting_place()))
    while (job := team.agree(inbox.next if inbox is not None else lambda: None)) is not None:
        if team.leads:
            assert inbox is not None
            _work_off(job, events, inbox)
        else:
            redirect_log(job["log"])
            work(job, FailureFiles(job) if started_by_script else FailuresOnly(events))
    leave_team()


def _work_off(job: dict[str, Any], events: EventStream, inbox: Inbox) -> None:
    redirect_log(job["log"])
    work(job, events)
    inbox.finished()
    events.send("idle")


if __name__ == "__main__":
    main()
