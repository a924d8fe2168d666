"""DeVIS' tables: the paper's numbers, and rows that are what their labels say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import devis
import pytest
import torch
from scales import CLEAN, STILLS
from static_check import checked_cells

from vislab.blocks.multi_scale_mask_head import MultiScaleMaskHeadConfig
from vislab.blocks.vistr_mask_head import VisTRMaskHeadConfig
from vislab.config import from_dict, to_dict
from vislab.data import DatasetConfig, load_dataset
from vislab.engine.config import RunConfig
from vislab.models.devis import DevisConfig
from vislab.models.presets import deformable_vistr
from vislab.models.presets import devis as devis_model
from vislab.models.vistr import VisTRConfig
from vislab.study.declare import SCALES, Table
from vislab.study.plan import plan_table

PAPER = devis.PAPER
NUMBERS = json.loads((Path(devis.__file__).parent / "papers" / "devis.json").read_text())
BY_ID = {numbers["id"]: numbers for numbers in NUMBERS["tables"]}


def configuration(table: Table, row: int, scale: str = "paper") -> Any:
    return PAPER.configuration(table, table.row(row), scale)


def training(table: Table, row: int, scale: str = "tiny") -> str:
    return configuration(table, row, scale).train_key


def test_every_table_of_the_paper_and_those_of_our_own() -> None:
    published = ["T1", "T2", "T3", "T4", "T5", "T6", "TA.0", "TA.1", "TA.2"]
    assert [table.id for table in PAPER.tables[:9]] == published
    assert [len(table.own_rows()) for table in PAPER.tables[:9]] == [11, 6, 5, 1, 4, 2, 0, 0, 8]
    assert [table.published for table in PAPER.tables] == [not table.id.startswith("X") for table in PAPER.tables]
    assert [table.id for table in PAPER.tables if table.all_static] == ["TA.0", "TA.1"]


@pytest.mark.parametrize("table_id", ["T1", "T2", "T4", "T5"])
def test_reported_numbers_are_the_papers(table_id: str) -> None:
    table, numbers = PAPER.table(table_id), BY_ID[table_id]
    assert [row.index for row in table.own_rows()] == numbers["own_rows"]
    printed = [column for column in table.columns if column in numbers["columns"]]
    assert set(table.columns) - set(printed) == ({"IDF1", "IDs"} if table_id == "T5" else set())
    for row, record in zip(table.rows, numbers["rows"], strict=True):
        assert row.reported == {column: record[column] for column in printed}


@pytest.mark.parametrize("table_id", ["T3", "T6", "TA.2"])
def test_numbers_on_several_data_sets_stand_beside_their_stand_ins(table_id: str) -> None:
    table, numbers = PAPER.table(table_id), BY_ID[table_id]
    assert [row.index for row in table.own_rows()] == numbers["own_rows"]
    for row, record in zip(table.rows, numbers["rows"], strict=True):
        reported = {place: row.reported_on[place] for place in ("YTVIS-19 val", "YTVIS-21 val", "OVIS val")}
        assert [numbers_there["AP"] for numbers_there in reported.values()] == [
            record["ytvis19_AP"], record["ytvis21_AP"], record["ovis_AP"],
        ]  # fmt: skip
        assert row.reported == row.reported_on["YTVIS-19 val"]
    assert set(table.datasets) <= set(table.stands_for)


def test_numbers_file_holds_numbers_and_labels_only() -> None:
    assert set(NUMBERS) == {"paper", "title", "tables"}
    for table in NUMBERS["tables"]:
        assert set(table) == {"id", "dataset", "columns", "own_rows", "rows"}
        assert all(list(row) == table["columns"] for row in table["rows"])


def test_parameters_of_the_build_up() -> None:
    """Millions; the paper prints 57, 64, 47, 36, 41, 36 and 48 five times."""
    counted = [PAPER.static_values(devis.T1, row, "paper")["params_M"] for row in devis.T1.rows]
    expected = [57.116129, 64.671329, 46.516715, 36.154475, 37.473515, 35.993195, *[47.917547] * 2, *[48.250172] * 3]
    assert counted == pytest.approx(expected, abs=1e-6)


def test_static_cells_agree_but_for_the_two_that_are_disputed() -> None:
    cells = list(checked_cells(PAPER, PAPER.tables))
    assert len(cells) == 11 + 30 + 16
    assert [(cell.table, cell.row) for cell in cells if not cell.agrees] == [("T1", 1), ("T1", 4)]
    assert all(cell.disputed for cell in cells if not cell.agrees)
    assert "37.47" in devis.T1.row(4).disputed["params_M"]


def test_the_build_up_step_by_step() -> None:
    vistr, naive = configuration(devis.T1, 0), configuration(devis.T1, 4)
    assert isinstance(vistr.model, VisTRConfig) and vistr.model.clip_length == 36 and vistr.model.num_levels == 1
    assert naive.model == deformable_vistr("paper")
    assert (naive.sampling.short_sides, naive.evaluation.short_side) == ((300,), 300)
    spatial, aware, head, tracking, final = (configuration(devis.T1, row) for row in (6, 7, 8, 9, 10))
    assert spatial.model == replace(naive.model, num_levels=4) and spatial.evaluation.short_side == 360
    assert not spatial.model.decoder.instance_aware and aware.model.decoder.instance_aware
    assert aware.model.mask_head == VisTRMaskHeadConfig(deformable=False)
    assert head.model == final.model == devis_model("paper")
    assert head.train_key == tracking.train_key != final.train_key
    assert head.evaluation.clips.stitching.mask_cue == "binary_frame_mean"
    assert (head.evaluation.clips.stitching.class_weight, head.evaluation.clips.stitching.score_weight) == (0, 0)
    assert tracking.evaluation == final.evaluation == PAPER.base("paper").evaluation
    assert (tracking.criterion.layer_weights, final.criterion.layer_weights) == ("equal", "rising")
    assert final == PAPER.base("paper")


@pytest.mark.parametrize("scale", SCALES)
def test_offline_rows_see_whole_videos(scale: str) -> None:
    for row in (0, 2, 3):
        run = configuration(devis.T1, row, scale)
        lengths = {run.model.clip_length, run.sampling.clip_length, run.evaluation.clips.clip_length}
        assert len(lengths) == 1
        if scale != "paper":
            video = load_dataset(run.evaluation.data, "valid").info(0)
            assert lengths <= {video.length} or scale == "small"


def test_full_attention_with_all_scales_is_too_large_at_scale_paper_only() -> None:
    row = devis.T1.row(1)
    assert [row.runs_at(scale) for scale in SCALES] == [True, True, True, False]
    assert "too large: one attention matrix" in row.unavailable["paper"] and "GiB" in row.unavailable["paper"]
    assert configuration(devis.T1, 1).model.num_levels == 4
    assert configuration(devis.T1, 1, "tiny").model.num_levels == 3 == devis_model("tiny").num_levels


def test_mask_heads_on_images() -> None:
    runs = [configuration(devis.T2, row) for row in range(6)]
    heads = [run.model.mask_head for run in runs]
    assert heads[5] == heads[4] == MultiScaleMaskHeadConfig()
    assert [head.deformable for head in heads] == [False] * 4 + [True] * 2
    assert [head.attention_scales for head in heads] == [1, 1, 1, 3, 3, 3]
    assert [head.encoded_features for head in heads] == [False, False, True, True, True, True]
    assert [head.positive_only for head in heads] == [False] + [True] * 5
    assert [run.train.multipliers[-1] for run in runs] == [("", 0.0)] * 5 + [("", 0.1)]
    assert all(run.model.clip_length == 1 and run.evaluation.clips is None for run in runs)
    assert {run.data.name for run in runs} == {STILLS} and devis.T2.datasets == (STILLS,)
    assert all(row.fresh == ("mask_head.",) for row in (*devis.T2.rows, *devis.T4.rows))
    assert training(devis.T4, 4) == training(devis.T2, 5)


def test_clip_size_and_temporal_points() -> None:
    for table in (devis.T3, devis.TA2):
        for row, record in zip(table.rows, BY_ID[table.id]["rows"], strict=True):
            run = configuration(table, row.index, "tiny")
            assert isinstance(run.model, DevisConfig)
            assert run.model.clip_length == run.sampling.clip_length == run.evaluation.clips.clip_length
            assert run.model.clip_length == record["clip_size"]
            assert run.evaluation.clips.clip_length - run.evaluation.clips.clip_stride == 2
            points = {run.model.encoder.temporal.num_points, run.model.decoder.temporal.num_points}
            assert points == {record["K_temp"]}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((devis.T1, 10), (devis.T3, 0)),
        ((devis.T1, 10), (devis.T5, 3)),
        ((devis.T1, 10), (devis.T6, 18)),
        ((devis.T1, 8), (devis.T1, 9)),
        *(((devis.T3, row), (devis.TA2, other)) for row, other in ((0, 0), (1, 4), (2, 1), (3, 2), (4, 3))),
        *(((devis.T5, 3), (devis.T5, row)) for row in (0, 1, 2)),
        *(((devis.T5, 3), (devis.X1, row)) for row in range(5)),
    ],
    ids=lambda place: f"{place[0].id}-{place[1]}",
)
def test_rows_that_need_one_training_share_it(first: tuple[Table, int], second: tuple[Table, int]) -> None:
    assert training(*first) == training(*second)


def test_tracking_cues() -> None:
    weights = []
    for row in range(4):
        stitching = configuration(devis.T5, row).evaluation.clips.stitching
        weights.append((stitching.mask_weight, stitching.score_weight, stitching.class_weight))
    records = BY_ID["T5"]["rows"]
    assert weights == [tuple(float(record[cue]) for cue in ("mask", "score", "class")) for record in records]
    assert configuration(devis.X1, 4).evaluation.clips.stitching.birth == "none"
    assert devis.T5.datasets == (devis.CROSSING, CLEAN) and devis.X1.datasets[-1] == devis.TWINS


@pytest.mark.parametrize("name", [devis.CROSSING, devis.LEAVING, devis.TWINS, devis.CROWDS])
def test_data_sets_exist(name: str) -> None:
    assert len(load_dataset(DatasetConfig(name, 3), "valid")) == 3


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_survives_json(scale: str) -> None:
    for table, row in ((devis.T1, 0), (devis.T1, 10), (devis.T2, 0)):
        run = configuration(table, row, scale)
        assert run.scale == scale
        assert from_dict(RunConfig, json.loads(json.dumps(to_dict(run)))) == run


def test_every_row_builds_at_tiny() -> None:
    """Clip lengths, mask heads and levels fit together."""
    own = [(table, row.index) for table in PAPER.tables for row in table.own_rows() if row.runs_at("tiny")]
    models = {configuration(table, row, "tiny").model for table, row in own}
    assert len(models) > 15
    for model in models:
        with torch.device("meta"):
            model.build()


def test_tiny_is_measured_on_held_out_videos_enough_for_intervals() -> None:
    assert PAPER.base("tiny").evaluation.data.num_videos >= 80


def test_pretraining_is_the_image_model_with_its_mask_head() -> None:
    assert devis.pretraining("smoke") is None
    for scale in ("tiny", "small", "paper"):
        run = devis.pretraining(scale)  # type: ignore[arg-type]
        assert run is not None and run.model.clip_length == run.sampling.clip_length == 1
        assert run.model.mask_head == MultiScaleMaskHeadConfig() and run.evaluation.clips is None
        assert load_dataset(run.evaluation.data, "valid").info(0).length == 1 or scale == "paper"
    assert PAPER.pretraining is not None
    assert PAPER.pretraining.weights("tiny").name == "deformable-detr-tiny.safetensors"


def test_data_sets_of_one_frame_keep_their_length() -> None:
    planned = plan_table(replace(PAPER, pretraining=None), devis.T2, "tiny", seeds=1)
    assert {load_dataset(run.config.data, "train").info(0).length for run in planned} == {1}
    assert {load_dataset(run.config.evaluation.data, "valid").info(0).length for run in planned} == {1}
