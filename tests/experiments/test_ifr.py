"""IFR's tables: the paper's numbers, rows that are what their labels say, and one row of the whole way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ifr
import pytest
import reproduce_table
from listing import num_runs, num_trainings
from reproduce_table import main

from vislab.config import from_dict, to_dict
from vislab.engine.config import InitialWeights, RunConfig
from vislab.engine.warm_start import warm_start
from vislab.models.mask2former_presets import IFR_BACKBONES
from vislab.models.presets import ifr as ifr_model
from vislab.models.presets import mask2former_vis
from vislab.report.tables.files import read_table, table_path
from vislab.report.tables.frames import TRACKING
from vislab.stitching.config import ClipInferenceConfig, ClipTrackingConfig
from vislab.study.declare import SCALES, Table

PAPER = ifr.PAPER
NUMBERS = json.loads((Path(ifr.__file__).parent / "papers" / "ifr.json").read_text())


def configuration(table: Table, row: int, scale: str = "paper") -> Any:
    return PAPER.configuration(table, table.row(row), scale)


def test_all_tables_the_figure_and_one_of_our_own() -> None:
    assert [table.id for table in PAPER.tables] == ["T1", "T2", "T3", "T4", "F4", "X1", "X2", "X3"]
    assert [len(table.own_rows()) for table in PAPER.tables] == [8, 8, 10, 8, 5, 0, 2, 6]
    assert [table.published for table in PAPER.tables] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("numbers", NUMBERS["tables"], ids=lambda numbers: numbers["id"])
def test_reported_numbers_are_the_papers(numbers: dict[str, Any]) -> None:
    table = PAPER.table(numbers["id"])
    assert [row.index for row in table.own_rows()] == numbers["own_rows"]
    measured = {"AP", "AP50", "AP75", "AR1", "AR10", *TRACKING["mot"]}
    printed = [name for name in numbers["columns"] if name in measured]
    assert list(table.columns[: len(printed)]) == printed
    for row, record in zip(table.rows, numbers["rows"], strict=True):
        assert row.reported == {column: record[column] for column in printed}


def test_numbers_file_holds_numbers_and_labels_only() -> None:
    assert set(NUMBERS) == {"paper", "title", "tables"}
    for table in NUMBERS["tables"]:
        assert set(table) == {"id", "dataset", "columns", "own_rows", "rows"}
        assert all(list(row) == table["columns"] for row in table["rows"])


def test_base_is_ifr_and_rows_of_the_baseline_are_mask2former() -> None:
    for scale in SCALES:
        run, other = PAPER.base(scale), configuration(ifr.T3, 0, scale)
        assert run.model == ifr_model(scale) and run.criterion.cross_frame_weight == 0.3
        assert other.model == mask2former_vis(scale) and other.criterion.cross_frame_weight == 0
        assert replace(other, model=run.model, criterion=run.criterion) == run
        assert run.sampling.clip_length == 2 and run.evaluation.mask_alignment == "interpolate"
    train = PAPER.base("paper").train
    assert (train.steps, train.batch_size, train.learning_rate, train.weight_decay) == (6000, 16, 1e-4, 0.05)
    assert (train.clip_norm, train.slow_multiplier, train.milestones) == (0.01, 1.0, (2 / 3,))


def test_backbones_and_queries() -> None:
    for table in (ifr.T1, ifr.T2):
        for row in table.own_rows():
            record = next(t for t in NUMBERS["tables"] if t["id"] == table.id)["rows"][row.index]
            model = configuration(table, row.index).model
            assert model.backbone == IFR_BACKBONES[record["backbone"]]
            assert model.num_queries == (record["queries"] or 100)
            assert row.runs_at("tiny") == (record["backbone"] == "ResNet-50")
    assert [configuration(ifr.T3, row, "tiny").model.num_queries for row in range(5)] == [20, 40, 20, 20, 40]


@pytest.mark.parametrize("scale", SCALES)
def test_table_4_is_one_training_of_the_base(scale: str) -> None:
    runs = [configuration(ifr.T4, row, scale) for row in range(8)]
    assert len({run.train_key for run in runs}) == 1
    assert [run.eval_key for run in runs[:4]] == [run.eval_key for run in runs[4:]]
    assert len({run.eval_key for run in runs}) == 4
    clips = [run.evaluation.clips and run.evaluation.clips.clip_length for run in runs[:4]]
    assert clips == [None, None, 2, 5]
    assert all(run.evaluation.clips == ifr.by_clips(run.evaluation.clips.clip_length) for run in runs[2:4])
    assert ifr.by_clips(5) == ClipInferenceConfig(5, 1, ClipTrackingConfig(min_iou=0.05))
    sizes = runs[1].evaluation.augmentation.short_sides
    assert len(sizes) == 4 and runs[1].evaluation.short_side in sizes
    if scale != "paper":
        assert runs[0].train_key == PAPER.base(scale).train_key


def test_rows_run_on_what_stands_in_for_their_data_set() -> None:
    for table, split in ((ifr.T3, 5), (ifr.T4, 4)):
        first, second = table.datasets
        for row in table.rows:
            assert [table.concerns(row, name) for name in (first, second)] == [row.index < split, row.index >= split]
    assert num_runs(ifr.T3, "tiny") == 10 and num_trainings(PAPER, ifr.T3, "tiny") == 8
    assert num_runs(ifr.T4, "tiny") == 8 and num_trainings(PAPER, ifr.T4, "tiny") == 2


def test_figure_4_shares_its_third_point_with_table_3() -> None:
    weights = [configuration(ifr.F4, row).criterion.cross_frame_weight for row in range(5)]
    assert weights == [0.0, 0.1, 0.3, 0.5, 1.0]
    assert configuration(ifr.F4, 2, "tiny").train_key == configuration(ifr.T3, 2, "tiny").train_key
    assert ifr.F4.datasets[0] == ifr.T3.datasets[0]


def test_parameters_by_part() -> None:
    """The baseline's are the released model's 43,959,977; IFR adds the same to every backbone, in both attentions."""
    values = [PAPER.static_values(ifr.X1, row, "paper") for row in ifr.X1.rows]
    assert 1e6 * values[0]["params_M"] == pytest.approx(43_959_977)
    for value in values:
        assert value["params_M"] == pytest.approx(sum(value.values()) - value["params_M"])
    added = [value["temporal_attention_M"] + value["clip_attention_M"] for value in values]
    assert added[::2] == [0.0] * 6 and len(set(added[1::2])) == 1
    one_attention = 4 * 256 * 256 + 4 * 256 + 2 * 256
    assert 1e6 * added[1] == pytest.approx(2 * 9 * one_attention)


def test_what_the_recurrence_costs() -> None:
    """Attention of the clip-level queries alone is added: 3 % of a frame's multiply-adds."""
    baseline, own = (PAPER.static_values(ifr.X2, row, "tiny")["GFLOPs"] for row in ifr.X2.rows)
    assert 1.0 < own / baseline < 1.1


def test_rows_start_with_the_class_head_of_the_weights() -> None:
    """IFR's sigmoids from the baseline's softmax: neither has an advantage by its start, and only what IFR adds is new.
    Both load weights of the tiny scale whole."""
    path = Path(ifr.__file__).parent / "weights" / "mask2former-tiny.safetensors"
    init = InitialWeights.of(path)
    baseline, own = (configuration(ifr.T3, row, "tiny").model.build() for row in (0, 2))
    found = warm_start(baseline, init)
    assert not found.fresh and not found.dropped
    found = warm_start(own, init)
    assert found.fresh and all("temporal_attention" in name or "clip_attention" in name for name in found.fresh)
    assert not found.dropped


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_survives_json(scale: str) -> None:
    run = configuration(ifr.T4, 1, scale)
    assert run.scale == scale
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(run)))) == run


def test_pretraining_is_the_baseline_on_stills() -> None:
    assert ifr.images("smoke") is None
    for scale in SCALES[1:]:
        run = ifr.images(scale)
        assert run is not None and run.model == mask2former_vis(scale) and run.sampling.clip_length == 1
        stills = "synthetic-ovis" if scale == "tiny" else "synthetic-coco"
        assert run.data.name == run.evaluation.data.name == stills and run.evaluation.data.length in (1, None)


def test_both_models_see_as_many_clips_before_the_tiny_tables() -> None:
    """Equal training of T3: what differs is the model, and nothing of it has seen the cross-frame loss."""
    own = ifr.videos("tiny")
    assert own is not None and own.criterion.cross_frame_weight == 0.0
    for make in (ifr.baseline_videos, ifr.many_queries_videos, ifr.many_queries_baseline_videos):
        other = make("tiny")
        assert other is not None and replace(own, model=other.model) == other and own.model != other.model


def test_rows_start_from_a_model_of_their_kind_and_number_of_queries() -> None:
    for row in ifr.T3.rows:
        assert row.pretraining is not None
        start, own = row.pretraining.run("tiny"), configuration(ifr.T3, row.index, "tiny")
        assert start is not None and start.model == own.model, row.label
    assert ifr.F4.rows[0].pretraining is None and PAPER.pretraining is ifr.VIDEOS


def test_larger_scales_start_from_images() -> None:
    for pretraining in {row.pretraining for row in ifr.T3.rows}:
        assert pretraining is not None
        assert pretraining.phases("tiny") == [ifr.IMAGES, pretraining]
        assert pretraining.phases("small") == pretraining.phases("paper") == [ifr.IMAGES]
        assert pretraining.phases("smoke") == []


def test_a_row_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T4 with test-time augmentation, through training with the cross-frame loss, inference and the report."""
    short = replace(PAPER.base("smoke"), train=replace(PAPER.base("smoke").train, steps=1))
    monkeypatch.setattr(reproduce_table, "PAPERS", {"ifr": replace(PAPER, base=lambda scale: short)})
    folders = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    assert main(["ifr", "T4", "--scale", "smoke", "--rows", "1", "--device", "cpu", *folders]) == 0
    found = read_table(table_path(tmp_path / "reports", "smoke", "ifr", "T4"))
    ap = found[found["metric"] == "AP"]
    assert ap.loc[ap["row"] == 1, "status"].tolist() == ["measured"]
    assert ap["row"].tolist() == list(range(8)) and ap["reported"].tolist()[:2] == [62.1, 62.6]
    assert ap["dataset"].tolist() == ["synthetic-ytvis19"] * 4 + ["synthetic-ytvis21"] * 4
