"""Curves of tables whose rows turn one knob."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vislab.errors import UserError
from vislab.report.figures.knob_plots import draw_knob
from vislab.report.figures.style import PLOT, write_figure
from vislab.report.tables.frames import COLUMNS


def frame(status: str = "measured") -> pd.DataFrame:
    """Three rows of two metrics on two data sets; the second row was not run on the second one."""
    records = []
    for dataset, level in (("clean", 40.0), ("faint", 20.0)):
        for row in range(3):
            for metric in ("AP", "IDF1"):
                run = not (dataset == "faint" and row == 1)
                measured = level + row if run else np.nan
                record = {"paper": "ifr", "table": "F4", "row": row, "metric": metric, "dataset": dataset}
                record |= {"measured": measured, "std": 0.5, "ci_low": measured - 1, "ci_high": measured + 2}
                records.append(record | {"scale": "tiny", "status": status if run else "not-run"})
    return pd.DataFrame(records).reindex(columns=list(COLUMNS))


def panels(figure: Figure) -> list[tuple[str, list[list[float]], list[list[float]]]]:
    """Label, places and values of each visible panel's lines."""
    found = []
    for axes in figure.axes:
        if axes.get_visible():
            lines = [container.lines[0] for container in axes.containers]
            found.append(
                (axes.get_ylabel(), [list(x.get_xdata()) for x in lines], [list(y.get_ydata()) for y in lines])
            )
    return found


def test_a_line_for_each_data_set_in_the_order_of_the_knob() -> None:
    figure = draw_knob(frame(), "knob", {0: 4.0, 1: 2.0, 2: 1.0}, ("AP", "IDF1", "IDs"))
    expected = [[1.0, 2.0, 4.0], [1.0, 4.0]], [[42.0, 41.0, 40.0], [22.0, 20.0]]
    assert panels(figure) == [("AP", *expected), ("IDF1", *expected)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clean", "faint"]


def test_rows_without_a_place_are_left_out() -> None:
    ((_, places, values),) = panels(draw_knob(frame(), "knob", {0: 1.0, 2: 3.0}, ("AP",)))
    assert places == [[1.0, 3.0]] * 2 and values == [[40.0, 42.0], [20.0, 22.0]]


def test_without_measured_rows_there_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no measured row of ifr F4 at scale tiny to draw"):
        draw_knob(frame("not-run"), "knob", {0: 1.0}, ("AP",))


def test_equal_bytes(tmp_path: Path) -> None:
    first, second = (
        write_figure(draw_knob(frame(), "knob", {0: 1.0, 2: 3.0}, ("AP",)), tmp_path / name, "F4", PLOT)
        for name in ("a", "b")
    )
    assert [path.name for path in first] == ["F4.pdf", "F4.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
