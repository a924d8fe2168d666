"""Costs of errors of finished runs: those of `vislab evaluate`, computed once."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_store import DATA, EVAL, KEYS, make_store

from vislab.data import load_dataset
from vislab.metrics import evaluate
from vislab.metrics.errors import ERROR_TYPES
from vislab.report.runs.error_costs import draw_error_costs, error_costs
from vislab.report.runs.labelled_videos import labelled_videos
from vislab.report.runs.stored_runs import StoredRun


def test_costs_are_those_of_evaluate_and_are_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    runs = [StoredRun(store, key, EVAL) for key in KEYS[:2]]
    found = error_costs(runs, labelled_videos(runs[0]))
    files = [run.eval_folder / "predictions.json" for run in runs]
    numbers = evaluate(load_dataset(DATA, "valid").ground_truth(), files, ["errors"]).set_index("metric")
    for name in ERROR_TYPES:
        expected = numbers.loc[f"dAP50 {name}"]
        lost = found.lost[name]
        assert [lost.value, lost.ci_low, lost.ci_high] == pytest.approx(
            [expected["value"], expected["ci_low"], expected["ci_high"]], nan_ok=True
        )
        assert found.counts[name] == numbers.loc[f"errors {name}", "value"]
    assert found.counts["miss"] == 3 and found.lost["miss"].value > 0
    for file in files:
        file.unlink()
    assert repr(error_costs(runs, labelled_videos(runs[0]))) == repr(found)


def test_one_row_has_types_below_each_other_several_a_panel_for_each(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    costs = {}
    for key in KEYS[1:]:
        run = StoredRun(store, key, EVAL)
        costs[key] = error_costs([run], labelled_videos(run))
    (axes,) = draw_error_costs({"": {KEYS[1]: costs[KEYS[1]]}}).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [*ERROR_TYPES]
    panels = draw_error_costs({"": costs}).axes
    assert [panel.get_title() for panel in panels] == [*ERROR_TYPES]
    widths = [bar.get_width() for bar in panels[ERROR_TYPES.index("miss")].patches]
    assert widths == [100 * costs[key].lost["miss"].value for key in KEYS[1:]] and widths[0] > widths[1] == 0
