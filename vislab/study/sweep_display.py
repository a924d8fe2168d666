"""What a sweep looks like while it runs: a live table of trials with bars of their runs on a terminal, else lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from vislab.study.display import SECONDS_BETWEEN_LINES, job_title, line_writer, run_bars, steps_text, update_bar
from vislab.study.plan import Job
from vislab.study.sweep_queue import OUTCOME, Counts
from vislab.study.sweep_run import Measured
from vislab.study.sweep_space import Point
from vislab.study.sweep_values import shown

LINES = 12  # of the live table
_WORDS = {
    TrialState.COMPLETE: ("done", "green"),
    TrialState.PRUNED: ("pruned", "yellow"),
    TrialState.FAIL: ("failed", "red"),
    TrialState.RUNNING: ("running", ""),
    TrialState.WAITING: ("waiting", "dim"),
}


@dataclass
class Standing:
    """How far the sweep has come, all processes together.

    objectives: name -> whether more is better; the first one decides which trial is shown as the best.
    """

    objectives: Mapping[str, bool]
    total: int
    clock: Callable[[], float] = time.monotonic
    trials: Sequence[FrozenTrial] = ()
    _first: tuple[float, int] | None = None  # when it was looked at first, and how many had ended by then

    @property
    def counts(self) -> Counts:
        return Counts.of(self.trials, self.total)

    def look(self, trials: Sequence[FrozenTrial]) -> None:
        self.trials = trials
        if self._first is None:
            self._first = self.clock(), self.counts.ended

    def best(self) -> FrozenTrial | None:
        """The best finished trial by the first objective."""
        finished = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        pick = max if next(iter(self.objectives.values())) else min
        return pick(finished, key=lambda trial: trial.values[0]) if finished else None

    def seconds_left(self) -> float | None:
        """By the speed so far; None before a trial has ended."""
        ended = self.counts.ended
        if self._first is None or ended == self._first[1]:
            return None
        return (self.total - ended) * (self.clock() - self._first[0]) / (ended - self._first[1])

    def summary(self) -> str:
        """ "7/12 trials, 2 running, 1 pruned; best 3 (k_inter 2): AP 41.2; about 14 min left"."""
        counts = self.counts
        several = {"running": counts.running, "pruned": counts.pruned, "failed": counts.failed}
        parts = [
            ", ".join([f"{counts.ended}/{self.total} trials", *(f"{n} {word}" for word, n in several.items() if n)])
        ]
        best, left = self.best(), self.seconds_left()
        if best is not None:
            parts.append(f"best {best.number} ({point_text(best.params)}): {self.numbers(measured_of(best))}")
        if left:
            parts.append(f"about {duration(left)} left")
        return "; ".join(parts)

    def numbers(self, measured: Measured) -> str:
        """ "AP 41.2 ± 0.5, GFLOPs 0.31"."""
        return ", ".join(f"{name} {estimate_text(measured[name])}" for name in self.objectives if name in measured)


def measured_of(trial: FrozenTrial) -> Measured:
    return trial.user_attrs.get(OUTCOME, {}).get("measured", {})


def point_text(point: Point) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in point.items())


def estimate_text(estimate: Mapping[str, float | None]) -> str:
    value, std = estimate.get("value"), estimate.get("std")
    if value is None:
        return "–"
    return f"{value:.4g}" + (f" ± {std:.2g}" if std is not None else "")


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class LiveSweep:
    """The last trials, a bar for every run at work, and the summary."""

    def __init__(self, standing: Standing, console: Console) -> None:
        self.standing, self.console = standing, console
        self._bars = run_bars(console)
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self.picture)

    def __enter__(self) -> LiveSweep:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def picture(self) -> Group:
        return Group(_table(self.standing), self._bars, Text(self.standing.summary(), style="bold"))

    def looked(self, trials: Sequence[FrozenTrial]) -> None:
        self.standing.look(trials)

    def trial_started(self, number: int, point: Point) -> None:
        pass  # the table shows it

    def trial_ended(self, number: int, state: TrialState, measured: Measured, note: str) -> None:
        if state == TrialState.FAIL:
            self.console.print(Text.assemble(("failed ", "red"), f"trial {number}: {note}"))

    def started(self, job: Job) -> None:
        self._drop(job)
        total = job.pause_at or job.runs[0].train.steps or 1
        self._tasks[job.keys(0)] = self._bars.add_task(escape(job_title(job)), total=total, stage="starting", loss="")

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        update_bar(self._bars, self._tasks[job.keys(0)], event)

    def notice(self, job: Job, text: str) -> None:
        self.console.print(Text(f"{job_title(job)}: {text}"))

    def failed(self, job: Job, sentence: str) -> None:
        pass  # its trial says so

    def finished(self, job: Job, succeeded: bool) -> None:
        self._drop(job)

    def _drop(self, job: Job) -> None:
        if job.keys(0) in self._tasks:
            self._bars.remove_task(self._tasks.pop(job.keys(0)))


@dataclass
class PlainSweep:
    """Lines for logs and pipes: when trials start and end, and every half minute how far their runs are."""

    standing: Standing
    write: Callable[[str], None] = print
    _last_line: dict[tuple[str, str], float] = field(default_factory=dict)

    def __enter__(self) -> PlainSweep:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def looked(self, trials: Sequence[FrozenTrial]) -> None:
        self.standing.look(trials)

    def trial_started(self, number: int, point: Point) -> None:
        self.write(f"trial {number}: {point_text(point)}")

    def trial_ended(self, number: int, state: TrialState, measured: Measured, note: str) -> None:
        text = note if state != TrialState.COMPLETE else self.standing.numbers(measured)
        self.write(f"trial {number} {_WORDS[state][0]}: {text}")
        self.write(f"  {self.standing.summary()}")

    def started(self, job: Job) -> None:
        self._last_line[job.keys(0)] = self.standing.clock()

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        now = self.standing.clock()
        if now - self._last_line[job.keys(0)] >= SECONDS_BETWEEN_LINES:
            self._last_line[job.keys(0)] = now
            self.write(f"  {event['stage']} {job_title(job)}: {steps_text(event)}")

    def notice(self, job: Job, text: str) -> None:
        self.write(f"  {job_title(job)}: {text}")

    def failed(self, job: Job, sentence: str) -> None:
        pass  # its trial says so

    def finished(self, job: Job, succeeded: bool) -> None:
        pass


def sweep_display(objectives: Mapping[str, bool], total: int, console: Console) -> LiveSweep | PlainSweep:
    """Live on a terminal, plain elsewhere."""
    standing = Standing(objectives, total)
    if console.is_terminal:
        return LiveSweep(standing, console)
    return PlainSweep(standing, line_writer(console))


def _table(standing: Standing) -> Table:
    """The last trials, and the best one wherever it is."""
    begun = [trial for trial in standing.trials if trial.state != TrialState.WAITING and trial.params]
    best = standing.best()
    recent = begun[-LINES:]
    if best is not None and best not in recent:
        recent = [best, *recent]
    names = list(recent[0].params) if recent else []
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("trial", *names, *standing.objectives):
        table.add_column(heading, justify="right")
    table.add_column("")
    for trial in recent:
        found = measured_of(trial)
        numbers = [estimate_text(found[name]) if name in found else "" for name in standing.objectives]
        word, style = ("best", "bold green") if trial is best else _WORDS[trial.state]
        points = [shown(trial.params[name]) if name in trial.params else "" for name in names]
        table.add_row(str(trial.number), *points, *numbers, Text(word, style=style))
    return table
