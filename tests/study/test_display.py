"""What a launch looks like, on a terminal and in a log."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from vislab.study.declare import Paper
from vislab.study.display import SECONDS_BETWEEN_LINES, LiveDisplay, PlainDisplay, display_for
from vislab.study.plan import Job


def job(paper: Paper, label: str = "Baseline", key: str = "k") -> Job:
    return Job(key, label, "synthetic-ytvis19", 0, (paper.base("tiny"),))


def event(step: int, loss: float | None = 1.25) -> dict:
    return {"stage": "train", "step": step, "total": 10, "loss": loss}


def test_log_has_lines_at_start_at_intervals_and_at_the_end(paper: Paper) -> None:
    now, lines = [0.0], list[str]()
    display = PlainDisplay(2, lines.append, clock=lambda: now[0])
    subject = job(paper)
    display.started(subject)
    for step in range(1, 11):
        now[0] += SECONDS_BETWEEN_LINES / 4
        display.progress(subject, event(step, None if step > 5 else 1.25))
    display.finished(subject, True)
    assert lines == [
        "started   Baseline · synthetic-ytvis19 · seed 0",
        "train     Baseline · synthetic-ytvis19 · seed 0: 4/10, loss 1.250",
        "train     Baseline · synthetic-ytvis19 · seed 0: 8/10",
        "done      Baseline · synthetic-ytvis19 · seed 0 after 1.2 min (1/2)",
    ]


def test_log_of_a_failure(paper: Paper) -> None:
    lines = list[str]()
    display = PlainDisplay(1, lines.append, clock=lambda: 0.0)
    display.started(job(paper))
    display.notice(job(paper), "waiting")
    display.failed(job(paper), "no memory")
    display.finished(job(paper), False)
    assert [line.split()[0] for line in lines] == ["started", "notice", "failed", "ended"]
    assert lines[2].endswith("no memory")


def test_terminal_shows_every_job_and_escapes_markup(paper: Paper) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    good, bad = job(paper, "row [bold]x", "a"), job(paper, "other", "b")
    with LiveDisplay([good, bad], console) as display:
        for subject in (good, bad):
            display.started(subject)
            display.progress(subject, event(3))
        display.notice(good, "a [notice]")
        display.finished(good, True)
        display.failed(bad, "it [broke]")
        display.finished(bad, False)
    text = screen.getvalue()
    for part in ("row [bold]x", "loss 1.250", "a [notice]", "it [broke]", "all 2 runs", "done", "failed"):
        assert part in text


def test_choice_of_display(paper: Paper, tmp_path: Path) -> None:
    assert isinstance(display_for([job(paper)], Console(force_terminal=True)), LiveDisplay)
    with (tmp_path / "log").open("w") as file:
        assert isinstance(display_for([job(paper)], Console(file=file)), PlainDisplay)
