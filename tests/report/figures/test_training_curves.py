"""Journals of trainings: read as they were written, drawn with the spread over seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from report_store import step

from vislab.errors import UserError
from vislab.report.figures.training_curves import Series, draw_losses, draw_quantities, read_journal


def journal(folder: Path, seed: int, steps: tuple[int, ...] = (2, 4)) -> Path:
    path = folder / f"{seed}.jsonl"
    path.write_text("".join(json.dumps(step(number, seed)) + "\n" for number in steps))
    return path


def test_a_journal_holds_terms_and_the_sum_of_those_of_earlier_layers(tmp_path: Path) -> None:
    path = journal(tmp_path, 1)
    path.write_text(path.read_text() + '{"step": 6, "los')  # torn by a kill
    found = read_journal(path)
    assert list(found.index) == [2, 4]
    assert found.loc[4].to_dict() == {
        "loss": 6.5, "learning_rate": 1e-4, "gradient_norm": 1.0, "dice": 3.5, "auxiliary losses": 3.0
    }  # fmt: skip
    assert read_journal(tmp_path / "none.jsonl").empty


@pytest.mark.parametrize("line", ["{", "[]", '{"step": 1}', '{"step": 1, "losses": 3}'])
def test_a_line_that_no_training_writes_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(step(2, 0)) + f"\n{line}\n")
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2: not what a training writes"):
        read_journal(tmp_path / "metrics.jsonl")


def test_lines_are_means_over_seeds_and_bands_their_deviation(tmp_path: Path) -> None:
    seeds = Series("two seeds", tuple(read_journal(journal(tmp_path, seed)) for seed in (0, 1)))
    single = Series("longer", (read_journal(journal(tmp_path, 2, (2, 4, 6))),))
    figure = draw_quantities([seeds, single])
    assert figure is not None
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert [*panels] == ["loss, all terms", "dice", "auxiliary losses", "learning rate ($10^{-4}$)", "gradient norm"]
    first, second = panels["dice"].lines
    np.testing.assert_allclose(first.get_ydata(), [5.5, 3.0])
    assert list(second.get_xdata()) == [2, 4, 6]
    (band,) = panels["dice"].collections  # one seed has none
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [3 - 0.5**0.5, 5.5 + 0.5**0.5])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["two seeds", "longer"]


def test_nothing_noted_is_no_figure(tmp_path: Path) -> None:
    nothing = Series("killed at once", (read_journal(tmp_path / "metrics.jsonl"),))
    assert draw_quantities([nothing]) is None
    with pytest.raises(UserError, match="no training of these rows is in the run store"):
        draw_losses({"synthetic": [nothing]})


def test_losses_have_a_panel_for_each_data_set(tmp_path: Path) -> None:
    series = [Series(f"row {number}", (read_journal(journal(tmp_path, number)),)) for number in range(6)]
    figure = draw_losses({"dial": series, "control": series[:2], "absent": []})
    assert [axes.get_title() for axes in figure.axes] == ["dial", "control"]
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 6
