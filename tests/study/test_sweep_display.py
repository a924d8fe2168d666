"""What a sweep looks like, on a terminal and in a log."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console
from sweep_cases import base

from vislab.study.plan import Job
from vislab.study.sweep_display import LiveSweep, PlainSweep, Standing, duration, estimate_text, sweep_display
from vislab.study.sweep_queue import OUTCOME

KIND = optuna.distributions.IntDistribution(1, 9)


def trial(number: int, state: TrialState, value: float | None = None, **attributes: Any) -> FrozenTrial:
    measured = {"AP": {"value": value, "std": 0.25}} if value is not None else {}
    made = create_trial(
        state=state, params={"k_inter": number + 1}, distributions={"k_inter": KIND},
        values=None if value is None else [value], user_attrs={OUTCOME: {"measured": measured}},
    )  # fmt: skip
    made.number = number
    return made


DONE = [trial(0, TrialState.COMPLETE, 30.0), trial(1, TrialState.COMPLETE, 41.25)]
LATER = [*DONE, trial(2, TrialState.PRUNED), trial(3, TrialState.FAIL), trial(4, TrialState.RUNNING)]


def job(label: str = "k_inter 5", pause_at: int | None = None) -> Job:
    run = base()
    return Job(run.train_key, label, "synthetic", 0, (run,), pause_at)


def test_summary_counts_names_the_best_and_says_how_long_it_takes() -> None:
    now = [0.0]
    standing = Standing({"AP": True}, 10, clock=lambda: now[0])
    standing.look(DONE[:1])
    assert standing.summary() == "1/10 trials; best 0 (k_inter 1): AP 30 ± 0.25"
    now[0] = 60.0
    standing.look(LATER)
    assert standing.summary() == (
        "4/10 trials, 1 running, 1 pruned, 1 failed; best 1 (k_inter 2): AP 41.25 ± 0.25; about 2 min left"
    )
    least = Standing({"AP": False}, 10)
    least.look(LATER)
    best = least.best()
    assert best is not None and best.number == 0


def test_log_has_lines_at_the_start_and_the_end_of_trials() -> None:
    now, lines = [0.0], list[str]()
    display = PlainSweep(Standing({"AP": True}, 5, clock=lambda: now[0]), lines.append)
    display.looked(DONE[:1])
    display.trial_started(1, {"k_inter": 2, "lr": 1e-4, "fusion": None})
    display.started(job())
    now[0] = 31.0
    display.progress(job(), {"stage": "train", "step": 3, "total": 10, "loss": 1.25})
    display.progress(job(), {"stage": "train", "step": 4, "total": 10, "loss": 1.0})
    display.notice(job(), "waiting")
    display.finished(job(), True)
    display.looked(DONE)
    display.trial_ended(1, TrialState.COMPLETE, {"AP": {"value": 41.25, "std": None}}, "")
    display.trial_ended(3, TrialState.FAIL, {}, "it broke")
    assert lines == [
        "trial 1: k_inter 2, lr 0.0001, fusion none",
        "  train k_inter 5 · synthetic · seed 0: 3/10, loss 1.250",
        "  k_inter 5 · synthetic · seed 0: waiting",
        "trial 1 done: AP 41.25",
        "  2/5 trials; best 1 (k_inter 2): AP 41.25 ± 0.25; about 2 min left",
        "trial 3 failed: it broke",
        "  2/5 trials; best 1 (k_inter 2): AP 41.25 ± 0.25; about 2 min left",
    ]


def test_terminal_shows_trials_bars_and_the_summary() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, height=40)
    with LiveSweep(Standing({"AP": True}, 9), console) as display:
        display.looked(LATER)
        display.trial_started(4, {"k_inter": 5})
        display.started(job("k_inter [5]", pause_at=25))
        display.started(job("k_inter [5]"))  # again, after its worker died
        display.progress(job(), {"stage": "train", "step": 3, "total": 10, "loss": 1.25})
        display.notice(job(), "a [notice]")
        display.trial_ended(3, TrialState.FAIL, {}, "it [broke]")
        console.print(display.picture())
        display.failed(job(), "it broke")
        display.finished(job(), False)
    text = screen.getvalue()
    for part in (
        "k_inter [5]",
        "loss 1.250",
        "a [notice]",
        "it [broke]",
        "4/9 trials",
        "best",
        "pruned",
        "41.25 ± 0.25",
    ):
        assert part in text


def test_an_empty_table_and_a_best_trial_of_long_ago() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = LiveSweep(Standing({"AP": True}, 9), console)
    console.print(display.picture())
    many = [DONE[1], *(trial(number % 8, TrialState.COMPLETE, 1.0) for number in range(30))]
    display.looked(many)
    console.print(display.picture())
    assert "41.25" in console.file.getvalue()  # type: ignore[attr-defined]


def test_choice_of_display(tmp_path: Path) -> None:
    assert isinstance(sweep_display({"AP": True}, 1, Console(force_terminal=True)), LiveSweep)
    with (tmp_path / "log").open("w") as file:
        assert isinstance(sweep_display({"AP": True}, 1, Console(file=file)), PlainSweep)


def test_texts() -> None:
    assert [duration(seconds) for seconds in (5, 600, 7200)] == ["5 s", "10 min", "2.0 h"]
    assert estimate_text({"value": None}) == "–" and estimate_text({"value": 0.31234, "std": None}) == "0.3123"
