"""Tracking of finished runs at every score threshold, and its figure: runs made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from report_store import DATA, EVAL, KEYS, make_store

from vislab.data import load_dataset
from vislab.errors import UserError
from vislab.metrics.frame_overlap import SCORE_THRESHOLD
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.mot import mot_instances
from vislab.records import write_json
from vislab.report.figures.level_plots import draw_levels
from vislab.report.runs.stored_runs import Group, StoredRun
from vislab.report.runs.track_levels import RowLevels, describe_rows, row_levels


@pytest.fixture
def groups(tmp_path: Path) -> list[Group]:
    """Two seeds without three objects of the data; a model that has all, the last one with too low a score, and every
    track twice, under another category."""
    store = make_store(tmp_path)
    runs = [StoredRun(store, key, EVAL) for key in KEYS]
    file = runs[2].eval_folder / "predictions.json"
    found = json.loads(file.read_text())
    found[-1]["score"] = SCORE_THRESHOLD / 2
    again = [each | {"category_id": each["category_id"] % 3 + 1, "score": each["score"] - 0.1} for each in found]
    write_json(file, found + again)
    return [Group("0 two", "data", tuple(runs[:2])), Group("1 one", "data", (runs[2],))]


def values(counts: object, name: str) -> list[float]:
    return [float(each.summaries(None, [name])[name][0]) for each in counts]  # type: ignore[attr-defined]


def test_rows_are_measured_by_how_many_tracks_count(groups: list[Group]) -> None:
    truth = read_ground_truth(load_dataset(DATA, "valid").ground_truth())
    objects = len(truth.instances)
    two, one = row_levels(groups)
    assert (two.label, one.label) == ("0 two", "1 one") and len(two.levels) == 2 and len(one.levels) == 1
    assert two.ratios[-1] == pytest.approx((objects - 3) / objects) and one.ratios[-1] == 1.0
    assert values(two.equal(), "IDF1") == pytest.approx([2 * (objects - 3) / (2 * objects - 3)] * 2), "all it has"
    assert values(one.equal(), "IDF1") == [1.0], "each track once, the one of low score too"
    assert one.usual_ratio == pytest.approx((objects - 1) / objects), "as tables count"
    found = read_results(json.loads((groups[1].runs[0].eval_folder / "predictions.json").read_text()), truth)
    assert values(one.usual, "MOTA") == values([mot_instances(truth, found)], "MOTA")
    assert values(one.best(), "IDF1") == pytest.approx([2 * (objects - 1) / (2 * objects - 1)]), (
        "the other videos need no track of so low a score"
    )


def test_rows_of_the_same_runs_are_one(groups: list[Group]) -> None:
    copied = Group("2 the same", "data", groups[0].runs)
    assert [row.label for row in row_levels([*groups, copied])] == ["0 two", "1 one"]


def test_a_run_without_tracks(groups: list[Group]) -> None:
    write_json(groups[1].runs[0].eval_folder / "predictions.json", [])
    with pytest.raises(UserError, match="row 1 one on data: a run of it found no track"):
        row_levels(groups)


def test_words_say_each_rule_with_differences_to_the_first_row(groups: list[Group]) -> None:
    text = list(describe_rows(row_levels(groups)))
    assert len(text) == 3 * 4 and sum(not line.startswith(" ") for line in text) == 3
    assert text[0] == "every track that scores 0.3 or more, as in the table"
    assert text[6].startswith("  1 one: IDF1 100.0 [100.0, 100.0], MOTA 100.0 [100.0, 100.0], IDs 0.0 [0.0, 0.0]")
    assert text[7].startswith("    against the first: IDF1 +") and "per object)" in text[1]


def test_lines_are_means_over_seeds_and_marks_the_tables_numbers(groups: list[Group]) -> None:
    rows = row_levels(groups)
    figure = draw_levels(rows)
    assert [panel.get_title() for panel in figure.axes] == ["IDF1", "MOTA", "identity switches (IDs)"]
    for panel, name in zip(figure.axes, ("IDF1", "MOTA", "IDs"), strict=True):
        lines = {line.get_label(): line for line in panel.get_lines()}
        for row in rows:
            by_seed = [values(each.counts, name) for each in row.levels]
            scale = 1 if name == "IDs" else 100
            assert lines[row.label].get_xdata().tolist() == list(row.ratios)
            assert lines[row.label].get_ydata() == pytest.approx(scale * np.mean(by_seed, 0))
            (mark,) = (
                line
                for line in panel.get_lines()
                if line.get_marker() != "None" and to_hex(line.get_color()) == to_hex(lines[row.label].get_color())
            )
            assert mark.get_xdata() == pytest.approx([row.usual_ratio])
            assert mark.get_ydata() == pytest.approx([scale * np.mean(values(row.usual, name))])
    assert len({to_hex(figure.axes[0].get_lines()[number].get_color()) for number in (0, 2)}) == 2
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == [
        "0 two", "1 one", "all tracks that score 0.3 or more",
    ]  # fmt: skip


def test_a_row_without_predictions_above_the_threshold_has_no_mark(groups: list[Group]) -> None:
    (row,) = row_levels(groups[:1])
    unmarked = RowLevels(row.label, row.levels, row.usual, 0.0)
    assert len(draw_levels([row]).axes[0].get_lines()) == len(draw_levels([unmarked]).axes[0].get_lines()) + 1
