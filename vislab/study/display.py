"""What a launch looks like: a live table of bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from vislab.study.plan import Job

SECONDS_BETWEEN_LINES = 30.0


def job_title(job: Job) -> str:
    return f"{job.label} · {job.dataset} · seed {job.seed}"


def run_bars(console: Console) -> Progress:
    """A bar per run: its title, stage, steps, loss, time used and left. Tasks have the fields stage and loss."""
    return Progress(
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        TextColumn("{task.fields[stage]}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def update_bar(bars: Progress, task: TaskID, event: Mapping[str, Any]) -> None:
    bars.update(task, completed=event["step"], total=event["total"], stage=event["stage"], loss=_loss_text(event))


def steps_text(event: Mapping[str, Any]) -> str:
    """ "120/400, loss 1.234"."""
    return ", ".join(filter(None, (f"{event['step']}/{event['total']}", _loss_text(event))))


def line_writer(console: Console) -> Callable[[str], None]:
    """Writes lines as they are, for logs and pipes."""
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


def _loss_text(event: Mapping[str, Any]) -> str:
    return "" if event.get("loss") is None else f"loss {event['loss']:.3f}"


class LiveDisplay:
    """One bar per job: stage, steps, loss, time used and left; a bar over all jobs below. Use as a context manager."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self._progress = run_bars(console)
        self._tasks: dict[str, TaskID] = {}
        self._all = self._progress.add_task(f"all {len(jobs)} runs", total=len(jobs), stage="", loss="")

    def __enter__(self) -> LiveDisplay:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, job: Job) -> None:
        self._tasks[job.train_key] = self._progress.add_task(
            escape(job_title(job)), total=job.runs[0].train.steps or 1, stage="starting", loss=""
        )

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        update_bar(self._progress, self._tasks[job.train_key], event)

    def notice(self, job: Job, text: str) -> None:
        self._progress.console.print(f"{escape(job_title(job))}: {escape(text)}", highlight=False)

    def failed(self, job: Job, sentence: str) -> None:
        self._progress.console.print(f"[red]failed[/] {escape(job_title(job))}: {escape(sentence)}", highlight=False)

    def finished(self, job: Job, succeeded: bool) -> None:
        task = self._tasks[job.train_key]
        self._progress.update(task, stage="[green]done[/]" if succeeded else "[red]failed[/]", loss="")
        self._progress.stop_task(task)
        self._progress.advance(self._all)


@dataclass
class PlainDisplay:
    """Lines for logs and pipes: when a job starts, every half minute, and when it ends."""

    num_jobs: int
    write: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    _begun: dict[str, float] = field(default_factory=dict)
    _last_line: dict[str, float] = field(default_factory=dict)
    _ended: int = 0

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, job: Job) -> None:
        self._begun[job.train_key] = self._last_line[job.train_key] = self.clock()
        self.write(f"started   {job_title(job)}")

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        now = self.clock()
        if now - self._last_line[job.train_key] < SECONDS_BETWEEN_LINES:
            return
        self._last_line[job.train_key] = now
        self.write(f"{event['stage']:9} {job_title(job)}: {steps_text(event)}")

    def notice(self, job: Job, text: str) -> None:
        self.write(f"notice    {job_title(job)}: {text}")

    def failed(self, job: Job, sentence: str) -> None:
        self.write(f"failed    {job_title(job)}: {sentence}")

    def finished(self, job: Job, succeeded: bool) -> None:
        minutes = (self.clock() - self._begun[job.train_key]) / 60
        self._ended += 1
        end = "done" if succeeded else "ended"
        self.write(f"{end:9} {job_title(job)} after {minutes:.1f} min ({self._ended}/{self.num_jobs})")


def display_for(jobs: Sequence[Job], console: Console) -> LiveDisplay | PlainDisplay:
    """Live on a terminal, plain elsewhere."""
    if console.is_terminal:
        return LiveDisplay(jobs, console)
    return PlainDisplay(len(jobs), line_writer(console))
