"""An evaluation in the terminal."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from evaluation_sets import ground_truth, results
from rich.console import Console

from vislab.metrics.compare import comparison
from vislab.metrics.evaluation import Evaluation, Plan, evaluations
from vislab.metrics.measure import Settings
from vislab.report.evaluation.evaluation_tables import print_comparison, print_evaluation

PLAN = Plan(Settings(("ap", "mot", "hota", "errors")), per_category=True, per_video=True, replicates=80, compared=True)


@pytest.fixture(scope="module")
def models() -> list[Evaluation]:
    return evaluations(ground_truth(), [results(1), results(4)], PLAN)


def shown(evaluation: Evaluation, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_evaluation(evaluation, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_number_is_shown(models: list[Evaluation]) -> None:
    text = shown(models[0], width=200)
    for part in ("AP50", "AR100", "small", "heavy", "[red]dog", "IDF1", "Frag", "HOTA(0)", "clip 3", "duplicate"):
        assert part in text, part
    assert "\N{EN DASH}" in text and "nan" not in text and "-0.0" not in text
    (line,) = re.findall(r"^ all .*", text, re.MULTILINE)[:1]
    frame = models[0].frame().set_index(["metric", "scope"])["value"]
    assert line.split()[1:4] == [f"{100 * frame[name, 'all']:.1f}" for name in ("AP", "AP50", "AP75")]
    assert line.split()[-1] == "6"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_fits_the_terminal(models: list[Evaluation], width: int) -> None:
    text = shown(models[0], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text and "classification" in text


def test_mean_of_runs_and_settings_are_named() -> None:
    plan = Plan(Settings(("mot",), score_threshold=0.92, class_agnostic=False), replicates=10)
    text = shown(evaluations(ground_truth(), [[results(1), results(2)]], plan)[0])
    assert "mean of 2 runs" in text and "at least 0.92" in text and "within their category" in text


def test_comparison(models: list[Evaluation]) -> None:
    console = Console(file=io.StringIO(), width=120)
    frame = comparison(*models)
    print_comparison(frame, ("ours[x]", "theirs"), (1, 1), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ours[x]" in text and "Holm" in text and "one per training seed" in text
    assert "↑ better" in text and "not supported by 6 videos" in text and "equal" in text
    assert "undefined" in text and "needed: about" in text
    frame = frame.assign(difference=-frame["difference"], supported=np.isfinite(frame["difference"]))
    print_comparison(frame.query("metric in ('AP', 'FP', 'PT')"), ("a", "b"), (3, 3), console)
    text = console.file.getvalue().partition("a against b")[2]  # type: ignore[attr-defined]
    assert "↓ worse" in text and "one per training seed" not in text


@pytest.mark.parametrize("name", ["[red]x", "[/]", "[/red]y", "[link=z]", "a\\[b"])
def test_names_that_look_like_markup_are_shown_as_they_are(name: str) -> None:
    truth = ground_truth()
    truth["categories"][1]["name"] = name
    for record in truth["videos"]:
        record["name"] = f"{name} {record['id']}"
    text = shown(evaluations(truth, [results(1)], PLAN)[0], width=200)
    assert name in text and f"{name} 3" in text
    console = Console(file=io.StringIO(), width=200)
    print_comparison(comparison(*evaluations(truth, [results(1), results(4)], PLAN)), (name, "b"), (1, 1), console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{name} against b" in printed and f"AP {name}" in printed
