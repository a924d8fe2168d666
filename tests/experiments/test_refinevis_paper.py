"""RefineVIS' tables: the paper's numbers, rows that are what their labels say, and one row of the whole way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import refinevis
import reproduce_table
from reproduce_table import main

from vislab.blocks.temporal_attention_refinement import TARConfig
from vislab.config import from_dict, to_dict
from vislab.data import load_dataset
from vislab.engine.config import RunConfig
from vislab.models.dynamic_mask_detr import DynamicMaskDETRConfig
from vislab.models.mask2former_frames import Mask2FormerFramesConfig
from vislab.models.maskdino import MaskDINOConfig
from vislab.models.presets import idol
from vislab.models.presets import refinevis as refinevis_model
from vislab.report.tables.files import read_table, table_path
from vislab.study.declare import SCALES, Table

PAPER = refinevis.PAPER
NUMBERS = json.loads((Path(refinevis.__file__).parent / "papers" / "refinevis.json").read_text())
PREFIXES = {"YTVIS-19 val": "YTVIS19_", "YTVIS-21 val": "YTVIS21_", "OVIS val": "OVIS_"}


def configuration(table: Table, row: int, scale: str = "paper") -> Any:
    return PAPER.configuration(table, table.row(row), scale)


def test_all_seven_tables_and_three_of_our_own() -> None:
    assert [table.id for table in PAPER.tables] == [*(f"T{number}" for number in range(1, 8)), "X1", "X2", "X3"]
    assert [len(table.own_rows()) for table in PAPER.tables] == [4, 3, 7, 3, 4, 2, 6, 5, 0, 2]
    assert all(table.published for table in PAPER.tables[:7])


@pytest.mark.parametrize("numbers", NUMBERS["tables"], ids=lambda numbers: numbers["id"])
def test_reported_numbers_are_the_papers(numbers: dict[str, Any]) -> None:
    table = PAPER.table(numbers["id"])
    rows = table.rows[: len(numbers["rows"])]
    assert [row.index for row in rows if row.own] == numbers["own_rows"]
    assert all(not row.reported for row in table.rows[len(rows) :])
    for row, record in zip(rows, numbers["rows"], strict=True):
        if table.id == "T1":
            for data, prefix in PREFIXES.items():
                assert row.reported_on[data] == {name: record[prefix + name] for name in table.columns[:5]}
        else:
            assert row.reported == {name: record[name] for name in row.reported}
            printed = [name for name in numbers["columns"] if isinstance(record[name], float)]
            assert set(printed) <= set(row.reported)


def test_numbers_file_holds_numbers_and_labels_only() -> None:
    assert set(NUMBERS) == {"paper", "title", "tables"}
    for table in NUMBERS["tables"]:
        assert set(table) == {"id", "dataset", "columns", "own_rows", "rows"}
        assert all(list(row) == table["columns"] for row in table["rows"])


def test_base_is_what_section_4_1_says() -> None:
    run = PAPER.base("paper")
    assert run.model == refinevis_model("paper") and run.model.tar == TARConfig()
    assert (run.model.frame_model.num_levels, run.model.frame_model.decoder.num_layers) == (4, 6)
    assert run.model.denoising is not None and run.model.denoising.num_queries == 100
    assert (run.train.steps, run.train.batch_size, run.train.milestones) == (13_000, 16, (10 / 13,))
    assert (run.train.learning_rate, run.train.backbone_multiplier, run.train.slow_multiplier) == (1e-4, 0.1, 1.0)
    assert (run.sampling.clip_length, run.sampling.clip_stride, run.sampling.jitter) == (2, 10, (0.1, 2.0))
    assert run.evaluation.short_side == 480 and run.evaluation.stream.mode == "offline"


def test_modes_and_backbones_of_table_1() -> None:
    online, offline, *swin = (configuration(refinevis.T1, row) for row in (4, 5, 10, 11))
    assert online.train_key == offline.train_key == PAPER.base("paper").train_key
    assert [run.evaluation.stream.mode for run in (online, offline, *swin)] == ["online", "offline"] * 2
    assert {(run.model.frame_model.num_levels, run.model.frame_model.decoder.num_layers) for run in swin} == {(5, 9)}
    assert {run.model.denoising.num_queries for run in swin} == {500}
    assert not any(row.runs_at(scale) for row in refinevis.T1.rows[10:] for scale in SCALES)


def test_denoising_of_table_2() -> None:
    runs = [configuration(refinevis.T2, row) for row in range(3)]
    kinds = [(run.criterion.association_denoising, run.criterion.temporal_denoising) for run in runs]
    printed = [(record["association_cdn"], record["temporal_cdn"]) for record in NUMBERS["tables"][1]["rows"]]
    assert kinds == printed == [(False, False), (True, False), (True, True)]
    assert all(run.model.denoising is not None for run in runs)
    assert {row.pretraining for row in refinevis.T2.rows} == {refinevis.IMAGES}
    readings = refinevis.T2.readings
    assert {reading.metric for reading in readings.values()} == {"AP", "AP50", "AP75"}
    windows = {name: reading.changes.get("evaluation.stream.window") for name, reading in readings.items()}
    assert windows == {name: 0 if name.startswith("frame_") else None for name in refinevis.T2.columns}


@pytest.mark.parametrize("scale", SCALES)
def test_one_training_serves_all_windows_and_modes(scale: str) -> None:
    base = PAPER.base(scale)
    for table in (refinevis.T3, refinevis.T6):
        runs = [configuration(table, row.index, scale) for row in table.rows]
        assert {run.train_key for run in runs} == {base.train_key}
        assert len({run.eval_key for run in runs}) == len(runs)
    runs = [configuration(refinevis.T3, row, scale) for row in range(7)]
    windows = [run.model.tar.window if (found := run.evaluation.stream.window) is None else found for run in runs]
    assert runs[4].eval_key == PAPER.base(scale).eval_key
    assert windows == [0, 2, 4, 8, 10, 16, 20]
    assert configuration(refinevis.T6, 1, scale).eval_key == base.eval_key


def test_training_clips_and_jitter() -> None:
    assert [configuration(refinevis.T4, row).sampling.clip_length for row in range(3)] == [2, 3, 5]
    for row, record in enumerate(NUMBERS["tables"][4]["rows"]):
        run = configuration(refinevis.T5, row)
        assert ((run.model.tar is not None), (run.sampling.jitter is not None)) == (record["TAR"], record["LSJ"])


@pytest.mark.parametrize("scale", SCALES)
def test_frame_level_models_of_table_7(scale: str) -> None:
    kinds = [type(configuration(refinevis.T7, row, scale).model.frame_model) for row in range(6)]
    expected = [Mask2FormerFramesConfig] * 2 + [DynamicMaskDETRConfig] * 2 + [MaskDINOConfig] * 2
    assert kinds == expected
    for row in range(6):
        run = configuration(refinevis.T7, row, scale)
        assert (run.model.tar is None) == (row % 2 == 0)
        assert (run.model.denoising is None) == (row < 4) and (run.criterion.box_weight == 0) == (row < 2)
    assert configuration(refinevis.T7, 2, scale).model == idol(scale)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((refinevis.T1, 5), (refinevis.T3, 4)),
        ((refinevis.T1, 5), (refinevis.T4, 0)),
        ((refinevis.T1, 5), (refinevis.T5, 3)),
        ((refinevis.T5, 1), (refinevis.T7, 4)),
        ((refinevis.T5, 3), (refinevis.T7, 5)),
        ((refinevis.T1, 5), (refinevis.X1, 4)),
        ((refinevis.T5, 1), (refinevis.X1, 0)),
        ((refinevis.T1, 5), (refinevis.X3, 1)),
        ((refinevis.T2, 2), (refinevis.X3, 0)),
    ],
    ids=lambda place: f"{place[0].id}-{place[1]}",
)
def test_tables_share_trainings(first: tuple[Table, int], second: tuple[Table, int]) -> None:
    assert configuration(*first, "tiny").train_key == configuration(*second, "tiny").train_key
    assert first[0].row(first[1]).pretraining == second[0].row(second[1]).pretraining


def test_the_control_differs_in_what_it_looks_at_alone() -> None:
    control, full = (configuration(refinevis.X1, row, "tiny") for row in (2, 4))
    assert control.model.tar == replace(full.model.tar, neighbours="same-frame")
    assert replace(control, model=full.model) == full
    assert {configuration(refinevis.X1, row, "tiny").train_key for row in (1, 3, 4)} == {full.train_key}


def test_what_refinement_computes() -> None:
    values = [PAPER.static_values(refinevis.X2, row, "paper") for row in refinevis.X2.rows]
    assert [value["TAR_MFLOPs"] for value in values] == pytest.approx([2.67264, 7.91552, 1.9712, 2.495488])
    assert [value["TAR_params_M"] for value in values] == pytest.approx([0.78976] * 3 + [1.315072])
    costs = [PAPER.static_values(refinevis.T6, row, "paper")["TAR_MFLOPs"] for row in refinevis.T6.rows]
    assert costs == pytest.approx([0, 7.91552])


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_survives_json(scale: str) -> None:
    run = PAPER.base(scale)
    assert run.scale == scale
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(run)))) == run


def test_pretraining_is_images_then_pseudo_videos() -> None:
    assert [phase.run("smoke") for phase in (refinevis.IMAGES, refinevis.DYNAMIC_IMAGES, refinevis.PSEUDO_VIDEOS)] == [
        None
    ] * 3
    assert PAPER.pretraining is refinevis.PSEUDO_VIDEOS and PAPER.pretraining.after is refinevis.IMAGES
    for scale in SCALES[1:]:
        images, videos = refinevis.images(scale), refinevis.pseudo_videos(scale)
        assert images is not None and videos is not None
        assert images.data == videos.data and "synthetic" in images.data.name
        assert (
            len(load_dataset(images.data, "train")) >= 20_000 and load_dataset(images.data, "train").info(0).length == 1
        )
        assert images.model == replace(refinevis_model(scale), tar=None) and images.criterion.association is None
        assert images.sampling.clip_length == 1 and videos.sampling == PAPER.base(scale).sampling
        assert videos.model == PAPER.base(scale).model


def test_a_row_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T2's last, before and after refinement, through training, both evaluations and the report; then T6's, which asks
    for the same training."""
    smoke = PAPER.base("smoke")
    data = replace(smoke.evaluation.data, num_videos=2, length=3)
    short = replace(
        smoke, train=replace(smoke.train, steps=1), data=data, evaluation=replace(smoke.evaluation, data=data)
    )
    monkeypatch.setattr(reproduce_table, "PAPERS", {"refinevis": replace(PAPER, base=lambda scale: short)})
    folders = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports"), "--device", "cpu"]
    common = ["--scale", "smoke", "--data", refinevis.CLEAN, *folders]
    assert main(["refinevis", "T2", "--rows", "2", *common]) == 0
    found = read_table(table_path(tmp_path / "reports", "smoke", "refinevis", "T2")).set_index(["row", "metric"])
    frame, refined = (found.loc[(2, f"{kind}_AP")] for kind in ("frame", "refined"))
    assert frame["status"] == refined["status"] == "measured"
    assert frame["train_key"] == refined["train_key"] and frame["eval_key"] != refined["eval_key"]
    assert main(["refinevis", "T6", *common]) == 0
    found = read_table(table_path(tmp_path / "reports", "smoke", "refinevis", "T6")).set_index(["row", "metric"])
    for row in (0, 1):
        speed = found.loc[(row, "fps_ResNet50")]
        assert speed["status"] == "measured" and speed["measured"] > 0 and speed["train_key"] == frame["train_key"]
        assert found.loc[(row, "fps_SwinL"), "status"] == "not-run"
