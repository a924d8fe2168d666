"""How far the frames of a video have come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["frame_bar"]

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def frame_bar(
    length: int | None, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after each frame. Standard error; nothing is left of the bar at the end.

    length: how many frames are expected; None if nobody knows.
    """
    console = console or Console(stderr=True)
    started = line_at = clock()
    done = 0
    bar = Progress(
        TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task("frames", total=length, speed="")

    def advance() -> None:
        nonlocal done, line_at
        done += 1
        now = clock()
        speed = f"{done / (now - started):.2f}/s" if now > started else ""
        # a file may hold more frames than it says
        bar.update(task, completed=done, speed=speed, total=length if length is None else max(length, done))
        if not console.is_terminal and now - line_at >= SECONDS_BETWEEN_LINES:
            line_at = now
            console.print(f"frame {done}/{length or '?'}  {speed}", highlight=False, soft_wrap=True)

    with bar:
        yield advance
