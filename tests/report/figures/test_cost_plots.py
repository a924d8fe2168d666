"""AP against costs: the points of the table, and only costs that tell rows apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hand_made import CLEAN, DIAL, evidence_of, report_table

from vislab.errors import UserError
from vislab.report.figures.cost_plots import draw_costs
from vislab.report.tables.frames import Evidence, table_frame


def frame(*params: float) -> pd.DataFrame:
    """Two measured rows, one of them on both data sets; params_M of each, train_minutes as they were."""
    table = report_table()
    own = [row for row in table.rows if row.own]
    rows = [replace(row, static={"params_M": number}) for row, number in zip(own, params, strict=True)]
    known = {(0, DIAL): evidence_of(0.3, 0.32), (1, DIAL): evidence_of(0.5, 0.52), (1, CLEAN): evidence_of(0.7)}
    known = {
        place: Evidence(tuple(replace(run, costs={"train_minutes": 2.0}) for run in found.evaluations))
        for place, found in known.items()
    }
    return table_frame(replace(table, rows=tuple(rows)), known)


def test_points_are_those_of_the_table() -> None:
    figure = draw_costs(frame(10.0, 20.0))
    (axes,) = figure.axes  # all rows took equally long
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("params (M)", "AP")
    points = {line.get_label(): np.transpose(line.get_data()).tolist() for line in axes.lines}
    assert points == {DIAL: [[10, pytest.approx(31)], [20, pytest.approx(51)]], CLEAN: [[20, pytest.approx(70)]]}
    assert [text.get_text() for text in axes.texts] == ["0", "1", "1"]
    assert [text.get_text()[:3] for text in figure.texts] == ["0  ", "1  "]
    spans = [segment[:, 1] for lines in axes.collections for segment in lines.get_segments()]
    assert all(low <= high for low, high in spans) and len(spans) == 3


def test_costs_that_hardly_differ_are_left_out() -> None:
    with pytest.raises(UserError, match="no measured rows of .* that differ in a cost"):
        draw_costs(frame(10.0, 10.05))


def test_an_unmeasured_table_has_no_figure() -> None:
    with pytest.raises(UserError, match="run it with reproduce_table.py"):
        draw_costs(table_frame(report_table(), {}))
