"""Figures of sweeps: which there are, what they show, and that equal input gives equal bytes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from sweep_sets import AP, GFLOPS, grid, record, sweep

from vislab.report.sweeps import sweep_plots
from vislab.report.sweeps.sweep_plots import Axis, Sweep, missing_sweep_plots, write_sweep_plots

SHARES = {"AP": {"k_inter": 60.0, "clip_length": 30.0, "together": 10.0}}


def mixed(count: int = 12) -> list[Any]:
    return [
        record(
            number,
            {"lr": 10 ** -(3 + number / 10), "fusion": ("AdditionConfig", None)[number % 2], "flag": number % 3 == 0},
            30 + number,
            0.3 + number % 4,
        )
        for number in range(count)
    ]


def drawn(subject: Sweep, name: str) -> Figure:
    """The figure of this name, as it would be written."""
    draw = dict(sweep_plots._figures(subject))[name]
    figure = plt.figure(layout="constrained")
    draw(figure)
    plt.close(figure)
    return figure


def test_files_of_a_grid(tmp_path: Path) -> None:
    subject = sweep(grid(), objectives=(AP, GFLOPS), importances=SHARES)
    written = {path.name for path in write_sweep_plots(subject, tmp_path)}
    names = (
        "AP_by_k_inter", "AP_by_clip_length", "GFLOPs_by_k_inter", "GFLOPs_by_clip_length", "AP_by_GFLOPs",
        "AP_k_inter_clip_length", "GFLOPs_k_inter_clip_length", "importances", "parallel_coordinates",
    )  # fmt: skip
    assert written == {f"{name}.{kind}" for name in names for kind in ("pdf", "png")}
    assert missing_sweep_plots(subject) == []
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_sweep_plots(subject, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_lines_through_the_other_axis() -> None:
    (panel,) = drawn(sweep(grid()), "axis AP_by_k_inter").axes
    lines = {str(line.get_label()): line for line in panel.get_lines() if not str(line.get_label()).startswith("_")}
    assert list(lines) == ["clip_length 3", "clip_length 5", "clip_length 7"]
    assert list(lines["clip_length 3"].get_ydata()) == [37.5, 40.5, 41.5, 40.5]
    spans = [segment for spans in panel.collections for segment in spans.get_segments()]  # type: ignore[attr-defined]
    assert len(spans) == 12 and {round(span[1][1] - span[0][1], 6) for span in spans} == {2.0}
    assert panel.get_xlabel() == "k_inter" and panel.get_ylabel() == "AP (%)"


def test_means_over_many_others() -> None:
    more = [record(20 + n, {"k_inter": 1, "clip_length": 10 + n}, 50.0, 0.3) for n in range(5)]
    (panel,) = drawn(sweep(grid(*more)), "axis AP_by_k_inter").axes
    line = next(line for line in panel.get_lines() if line.get_label() == "mean over the others")
    assert line.get_ydata()[0] == pytest.approx((37.5 + 38.5 + 39.5 + 5 * 50) / 8)


def test_pareto_front() -> None:
    (panel,) = drawn(sweep(grid()), "cost AP_by_GFLOPs").axes
    line = next(line for line in panel.get_lines() if "Pareto" in str(line.get_label()))
    assert list(line.get_xdata()) == pytest.approx([0.21, 0.22, 0.23])
    assert list(line.get_ydata()) == pytest.approx([39.5, 42.5, 43.5])
    assert [text.get_text() for text in panel.texts] == ["2", "5", "8"]


def test_heat_map_has_the_mean_of_each_cell() -> None:
    twice = record(20, {"k_inter": 1, "clip_length": 3}, 39.5, 0.3)
    figure = drawn(sweep(grid(twice)), "heat AP_k_inter_clip_length")
    panel = figure.axes[0]
    (image,) = panel.get_images()
    values = image.get_array()
    assert values is not None and values.shape == (3, 4)
    assert values[-1, 0] == pytest.approx((37.5 + 39.5) / 2)  # clip_length 3 is at the bottom
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["7", "5", "3"]


def test_axes_of_any_kind(tmp_path: Path) -> None:
    axes = (Axis("lr", "lr", log=True), Axis("fusion", "encoder.fusion"), Axis("flag", "flag"))
    subject = sweep(mixed(), *axes)
    names = {path.stem for path in write_sweep_plots(subject, tmp_path)}
    assert {"AP_by_lr", "AP_by_fusion", "AP_by_flag", "AP_fusion_flag", "parallel_coordinates"} <= names
    (panel,) = drawn(subject, "axis AP_by_lr").axes
    assert panel.get_xscale() == "log"
    (panel,) = drawn(subject, "axis AP_by_fusion").axes
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["Addition", "none"]
    assert missing_sweep_plots(subject) == ["importances: need two axes and enough different trials"]


def test_what_is_missing_says_why() -> None:
    assert missing_sweep_plots(sweep(grid()[:1])) == ["anything: fewer than two trials are complete"]
    one_axis = sweep([record(n, {"k_inter": n}, 1.0, 0.5) for n in range(3)], Axis("k_inter", "k_inter"))
    reasons = missing_sweep_plots(one_axis)
    assert [reason.partition(":")[0] for reason in reasons] == ["accuracy by cost", "heat maps", "importances"]


def test_dotted_names_make_plain_files(tmp_path: Path) -> None:
    axis = Axis("model.encoder.fusion", "encoder.fusion")
    made = partial(record, ap=30.0, gflops=0.3)
    subject = sweep([made(n, {axis.name: "ab"[n]}) for n in range(2)], axis)
    assert {path.stem for path in write_sweep_plots(subject, tmp_path)} == {"AP_by_model_encoder_fusion"}


def test_equal_values_are_drawn_too(tmp_path: Path) -> None:
    flat = sweep([record(n, {"k_inter": n, "clip_length": 3}, 0.0, 0.3) for n in range(4)])
    assert write_sweep_plots(flat, tmp_path)
