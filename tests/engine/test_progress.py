from __future__ import annotations

import io

from rich.console import Console

from vislab.engine.progress import Silent, TerminalWatcher


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(watcher: TerminalWatcher, clock: Clock, stage: str, first: int, total: int) -> None:
    for step in range(first + 1, total + 1):
        clock.now += 2.0
        watcher.update(stage, step, total, loss=1 / step)


def test_a_log_gets_plain_lines_now_and_then_and_at_the_end() -> None:
    console, clock = Console(file=io.StringIO(), width=40), Clock()
    watcher = TerminalWatcher(console, clock)
    watcher.update("train", 10, 20)
    run(watcher, clock, "train", 10, 20)
    run(watcher, clock, "infer", 0, 2)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "train 15/20  0.50/s  loss 0.067  0:10 left",
        "train 20/20  0.50/s  loss 0.050",
        "infer 2/2  0.50/s  loss 0.500",
    ]


def test_a_terminal_gets_a_bar_that_goes() -> None:
    console, clock = Console(file=io.StringIO(), force_terminal=True, width=100), Clock()
    watcher = TerminalWatcher(console, clock)
    watcher.update("train", 0, 5)
    assert watcher.stage is not None and watcher.stage.bar.live.is_started
    bar = watcher.stage.bar
    run(watcher, clock, "train", 0, 5)
    assert watcher.stage is None and not bar.live.is_started and bar.live.transient
    assert bar.tasks[0].completed == 5 and "loss 0.200" in bar.tasks[0].fields["text"]


def test_notices_are_printed_whole_and_unchanged(capsys) -> None:  # type: ignore[no-untyped-def]
    text = "runs/[x]/checkpoint: " + "damaged " * 30
    console = Console(file=io.StringIO(), width=40)
    TerminalWatcher(console).notice(text)
    assert console.file.getvalue() == text + "\n"  # type: ignore[attr-defined]
    silent = Silent()
    silent.update("train", 1, 2)
    assert capsys.readouterr() == ("", "")
    silent.notice(text)
    assert capsys.readouterr().err == text + "\n"
