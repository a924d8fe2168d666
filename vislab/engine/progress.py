"""What a person sees while a run works: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Watcher(Protocol):
    """Whoever wants to know how far a run has come."""

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        """stage: "train", "infer" or "score"; `step` of `total` is done. Called after every step."""
        ...

    def notice(self, text: str) -> None:
        """Something out of the ordinary that the user should read."""
        ...


class Silent:
    """Watches without a word, notices excepted."""

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        pass

    def notice(self, text: str) -> None:
        Console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)


class TerminalWatcher:
    """Standard error: a bar with loss, speed and time left, gone when the stage is done; in a log, plain lines."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(stderr=True)
        self.clock = clock
        self.stage: _Stage | None = None

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        if self.stage is None or self.stage.name != stage:
            self.stage = _Stage(stage, step, total, self.console, self.clock)
        self.stage.update(step, loss)
        if step >= total:
            self.stage = None

    def notice(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Stage:
    """One bar, or the lines of one stage."""

    def __init__(self, name: str, step: int, total: int, console: Console, clock: Callable[[], float]) -> None:
        self.name, self.first, self.total, self.console, self.clock = name, step, total, console, clock
        self.started = self.line_at = clock()
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task(name, total=total, completed=step, text="")
        self.bar.start()

    def update(self, step: int, loss: float | None) -> None:
        seconds = self.clock() - self.started
        speed = (step - self.first) / seconds if seconds > 0 else 0.0
        text = f"{speed:.2f}/s" + ("" if loss is None else f"  loss {loss:.3f}")
        self.bar.update(self.task, completed=step, text=text)
        last = step >= self.total
        if last:
            self.bar.stop()
        if not self.console.is_terminal and (last or self.clock() - self.line_at >= SECONDS_BETWEEN_LINES):
            self.line_at = self.clock()
            left = f"  {_duration((self.total - step) / speed)} left" if speed and not last else ""
            self.console.print(f"{self.name} {step}/{self.total}  {text}{left}", highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
