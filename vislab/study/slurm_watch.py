"""A table's jobs on Slurm: submitted once, watched from wherever the command is given, also again and elsewhere.

What is done is decided by the run store; what is at work, by the cluster's queue. Ctrl-C ends the watching, not the
jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vislab.errors import UserError
from vislab.records import RunStore, exclusive, read_json, write_json
from vislab.study.launch import Display, Outcome, failure_path
from vislab.study.plan import Job
from vislab.study.slurm import (
    Resources,
    Submission,
    TaskState,
    active_tasks,
    array_names,
    new_submission,
    progress_path,
    queue,
    standing,
    submit,
)
from vislab.study.slurm_task import JobTask


@dataclass(frozen=True)
class Pace:
    """Seconds. looks: between looks at the store; queries: between questions to squeue; settle: how long a task must be
    gone, without its results, to count as failed: folders of other machines show files late."""

    looks: float = 2.0
    queries: float = 10.0
    settle: float = 60.0


def launch_on_slurm(
    jobs: Sequence[Job],
    store: RunStore,
    display: Display,
    resources: Resources,
    *,
    device: str,
    processes: int = 1,
    title: str,
    say: Callable[[str], None],
    pace: Pace | None = None,
) -> Outcome:
    """As `launch`, on a cluster: one array, a task for every job that no active task works on already.

    device: auto means a GPU. processes: that share each run, on one machine. title: begins the array's name. say: told
    what concerns no single job. Returns when all jobs have ended or, with `interrupted` set, at Ctrl-C. Raises
    UserError where the cluster takes no jobs.
    """
    root = Path(store.root)
    with exclusive(root / "slurm"):  # two commands at once must not submit the same
        watched = _active(jobs, root)
        missing = [job for job in jobs if not any(each.job is job for each in watched)]
        if missing:
            watched += _submitted(missing, store, resources, device, processes, title)
    watch = _Watch(watched, store, display, say)
    try:
        watch.ask(f"{len(missing)} of {len(jobs)} runs submitted, {len(jobs) - len(missing)} were before; ")
        watch.until_all_ended(pace or Pace())
    except KeyboardInterrupt:
        watch.outcome.interrupted = True
        say(f"The runs go on: the same command watches them again, scancel ends Slurm {watch.arrays()}.")
    return watch.outcome


@dataclass
class _Watched:
    """A job and its task, as last seen. told: the progress that was shown."""

    job: Job
    submission: Submission
    index: int
    state: TaskState | None = None
    started: bool = False
    worked: bool = False
    told: dict[str, Any] = field(default_factory=dict)
    failures: set[int] = field(default_factory=set)
    gone_since: float | None = None

    def end_sentence(self) -> str:
        found = f" as {self.state.state}" if self.state and self.state.ended else ""
        return f"the cluster's task ended{found} without a result; its log is in slurm/{self.submission.name}"


def _claims(job: Job) -> frozenset[str]:
    return frozenset("/".join(job.keys(run)) for run in range(len(job.runs)))


def _active(jobs: Sequence[Job], root: Path) -> list[_Watched]:
    """The jobs that a task in the queue does, whole."""
    active = active_tasks(root, frozenset[str]().union(*map(_claims, jobs)))
    found = []
    for job in jobs:
        place = next(((each, index) for each, index in active if _claims(job) <= each.claims[index]), None)
        if place is not None:
            found.append(_Watched(job, *place))
    return found


def _submitted(
    jobs: Sequence[Job], store: RunStore, resources: Resources, device: str, processes: int, title: str
) -> list[_Watched]:
    for job in jobs:
        for run in range(len(job.runs)):  # what an earlier attempt came to
            failure_path(store, *job.keys(run)).unlink(missing_ok=True)
    root = Path(store.root).resolve()
    submission = new_submission(root, title, [_claims(job) for job in jobs])
    tasks = [JobTask(job, root, device, progress_path(submission, index), processes) for index, job in enumerate(jobs)]
    submit(submission, tasks, resources.parameters(len(tasks), device, processes))
    return [_Watched(job, submission, index) for index, job in enumerate(jobs)]


class _Watch:
    """Turns what lies in the store, and what the queue says, into what a display is told."""

    def __init__(
        self, watched: Sequence[_Watched], store: RunStore, display: Display, say: Callable[[str], None]
    ) -> None:
        self.left = list(watched)
        self.store, self.display, self.say = store, display, say
        self.outcome = Outcome()
        self.submissions = list({each.submission.name: each.submission for each in watched}.values())
        self.said = ""

    def arrays(self) -> str:
        known = array_names([each.state for each in self.left])
        return known or ", ".join(submission.name for submission in self.submissions)

    def until_all_ended(self, pace: Pace) -> None:
        asked = time.monotonic()
        while True:
            if time.monotonic() - asked >= pace.queries:
                self.ask()
                asked = time.monotonic()
            for each in list(self.left):
                self._look(each, pace.settle)
            if not self.left:
                return
            time.sleep(pace.looks)

    def ask(self, news: str = "") -> None:
        """Ask the queue, and tell how things stand, after the news. Where it has no answer, all is as it was."""
        try:
            states = queue(self.submissions)
        except UserError as error:
            self._say_once(f"{error}; asking again")
            return
        for each in self.left:
            self._note(each, states.get((each.submission.name, each.index)))
        found = [each.state for each in self.left]
        self._say_once(standing(found), news)

    def _say_once(self, text: str, news: str = "") -> None:
        if text and text != self.said:
            self.say(f"Slurm {self.arrays()}: {news}{text}")
            self.said = text

    def _note(self, each: _Watched, state: TaskState | None) -> None:
        gone = state is None or state.ended
        each.gone_since = (each.gone_since or time.monotonic()) if gone else None
        if state is None:
            return
        each.state = state
        if state.waits and each.worked:
            self.display.notice(each.job, "the cluster took its node; it waits, to go on from its checkpoint")
        each.worked = state.state == "RUNNING" or (each.worked and not state.waits)

    def _look(self, each: _Watched, seconds_to_settle: float) -> None:
        """What the job's files say."""
        self._read_progress(each)
        unsettled = set(range(len(each.job.runs))) - each.failures
        for run in sorted(unsettled):
            keys = each.job.keys(run)
            if (self.store.eval_dir(*keys) / "result.json").exists():
                unsettled.discard(run)
            elif failure_path(self.store, *keys).exists():
                self._fail(each, run, read_json(failure_path(self.store, *keys))["error"])
                unsettled.discard(run)
        gone = each.gone_since is not None and time.monotonic() - each.gone_since >= seconds_to_settle
        if unsettled and not gone:
            return
        for run in sorted(unsettled):
            write_json(failure_path(self.store, *each.job.keys(run)), {"error": each.end_sentence()})
            self._fail(each, run, each.end_sentence())
        self._end(each)

    def _read_progress(self, each: _Watched) -> None:
        path = progress_path(each.submission, each.index)
        told = read_json(path) if path.exists() else {}
        if told in ({}, each.told):
            return
        self._start(each)
        for text in told["notices"][len(each.told.get("notices", ())) :]:
            self.display.notice(each.job, text)
        if told["total"]:
            self.display.progress(each.job, told)
        each.told = told

    def _start(self, each: _Watched) -> None:
        if not each.started:
            each.started = True
            self.display.started(each.job)

    def _fail(self, each: _Watched, run: int, sentence: str) -> None:
        self._start(each)
        each.failures.add(run)
        self.outcome.failed[each.job.keys(run)] = sentence
        self.display.failed(each.job, sentence)

    def _end(self, each: _Watched) -> None:
        self._start(each)
        self.left.remove(each)
        if not each.failures:
            self.outcome.finished.append(each.job)
        self.display.finished(each.job, not each.failures)
