"""Bars of benchmarks: the ratios of the file, on its most threads, beside the reference at 1."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from vislab.errors import UserError
from vislab.report.figures.benchmark_plots import draw_benchmark, read_benchmark


def kernels() -> pd.DataFrame:
    lines = [
        (case, way, threads, name, ratio, "loop")
        for case in ("small", "large")
        for way in ("forward", "backward")
        for threads in (1, 2)
        for name, ratio in (("loop", 1.0), ("fast", 4.0 * threads), ("slow", 0.5))
        if (case, name) != ("large", "slow")
    ]
    return pd.DataFrame(lines, columns=["case", "pass", "threads", "competitor", "ratio", "reference"])


def test_a_panel_for_each_pass_and_a_bar_for_each_competitor(tmp_path: Path) -> None:
    kernels().to_csv(tmp_path / "msda.csv", index=False)
    figure = draw_benchmark(read_benchmark(tmp_path / "msda.csv"))
    assert [axes.get_title() for axes in figure.axes] == ["forward", "backward"]
    fast, slow = figure.axes[0].containers
    assert (fast.get_label(), slow.get_label()) == ("fast", "slow")
    assert [1 + bar.get_width() for bar in fast] == [8, 8] and 1 + slow[0].get_width() == 0.5
    assert [text.get_text() for text in figure.axes[0].texts] == ["8", "8", "0.5"]
    assert figure.axes[0].get_xlabel() == "times as fast as loop"


def test_cases_with_references_of_their_own_are_named_bar_by_bar() -> None:
    lines = [("ap", "theirs", 1.0, "theirs"), ("ap", "ours", 5.0, "theirs"), ("mot", "ours too", 8.0, "others")]
    (axes,) = draw_benchmark(pd.DataFrame(lines, columns=["case", "competitor", "ratio", "reference"])).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "ours\nagainst theirs",
        "ours too\nagainst others",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("case,ratio\na,1\n", "has no column competitor, reference"), ("", "cannot be read as a benchmark")],
)
def test_another_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_benchmark(tmp_path / "file.csv")
