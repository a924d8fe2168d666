"""Figures of an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_sets import ground_truth, results
from PIL import Image

from vislab.errors import UserError
from vislab.metrics.evaluation import Evaluation, Plan, evaluations
from vislab.metrics.measure import Settings
from vislab.report.evaluation import evaluation_plots
from vislab.report.evaluation.evaluation_plots import missing_plots, write_plots

PLAN = Plan(Settings(("ap", "errors")), replicates=60)


@pytest.fixture(scope="module")
def models() -> dict[str, Evaluation]:
    found = evaluations(ground_truth(), [results(1), [results(3), results(4)]], PLAN)
    return dict(zip(("ours", "baseline with a longer name"), found, strict=True))


def test_every_figure_as_pdf_and_png(models: dict[str, Evaluation], tmp_path: Path) -> None:
    names = {path.name for path in write_plots(models, tmp_path / "new" / "folder")}
    figures = ("precision_recall", "ap_by_threshold", "errors", "occlusion")
    assert names == {f"{name}.{kind}" for name in figures for kind in ("pdf", "png")}
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == names
    assert missing_plots(models) == []
    for name in figures:
        pdf = (tmp_path / "new" / "folder" / f"{name}.pdf").read_bytes()
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf, "fonts are embedded, as TrueType"
        with Image.open(tmp_path / "new" / "folder" / f"{name}.png") as image:
            assert image.width == 975, "the width of a column, 3.25 inches, at 300 dpi"


def test_equal_input_gives_equal_bytes(models: dict[str, Evaluation], tmp_path: Path) -> None:
    one = {"ours": models["ours"]}
    for first, second in zip(write_plots(one, tmp_path / "1"), write_plots(one, tmp_path / "2"), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_what_is_drawn(models: dict[str, Evaluation], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = {}
    monkeypatch.setattr(
        evaluation_plots, "write_figure", lambda drawn, _, name, __: figures.setdefault(name, drawn) and []
    )
    write_plots(models, tmp_path)
    frames = [model.frame().set_index(["metric", "scope"])["value"] for model in models.values()]
    panels = figures["precision_recall"].axes
    for number, frame in enumerate(frames):
        areas = [np.mean(panel.lines[number].get_ydata()) for panel in panels]
        np.testing.assert_allclose(areas, [100 * frame[name, "all"] for name in ("AP50", "AP75", "AP")])
        heights = [bar.get_height() for bar in figures["occlusion"].axes[0].containers[number]]
        assert heights[0] == pytest.approx(100 * frame["AP", "all"])
        assert heights[3] == pytest.approx(100 * frame["AP", "occlusion heavy"])
        widths = [bar.get_width() for bar in figures["errors"].axes[0].containers[number]]
        assert widths[0] == pytest.approx(100 * frame["dAP50 classification", "all"])
        line = figures["ap_by_threshold"].axes[0].lines[number]
        assert np.mean(line.get_ydata()) == pytest.approx(100 * frame["AP", "all"])
    colours = [line.get_color() for line in figures["ap_by_threshold"].axes[0].lines]
    styles = [line.get_linestyle() for line in figures["ap_by_threshold"].axes[0].lines]
    assert len(set(colours)) == len(set(styles)) == 2
    assert [text.get_text() for text in figures["errors"].legends[0].get_texts()] == list(models)


def test_figures_without_numbers_are_named(tmp_path: Path) -> None:
    only_ap = {"m": evaluations(ground_truth(occlusion=False), [results(1)], Plan(replicates=10))[0]}
    assert {path.stem for path in write_plots(only_ap, tmp_path)} == {"precision_recall", "ap_by_threshold"}
    assert [reason.split(":")[0] for reason in missing_plots(only_ap)] == ["occlusion", "errors"]
    tracked = {"m": evaluations(ground_truth(), [results(1)], Plan(Settings(("hota",)), replicates=10))[0]}
    assert write_plots(tracked, tmp_path) == [] and len(missing_plots(tracked)) == 2


def test_undefined_numbers_are_left_out(tmp_path: Path) -> None:
    nothing = ground_truth() | {"annotations": []}
    model = {"m": evaluations(nothing, [results(1)], PLAN)[0]}
    assert len(write_plots(model, tmp_path)) == 6


def test_unwritable(models: dict[str, Evaluation], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="precision_recall.pdf: cannot be written"):
        write_plots(models, tmp_path / "file")
