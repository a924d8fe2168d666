"""TeViT's tables: the paper's numbers, rows that are what their labels say, and one row of the whole way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reproduce_table
import tevit
from reproduce_table import main

from vislab.blocks.frame_aggregation import FrameConvolutionConfig, FrameTransformerConfig
from vislab.blocks.messenger_shift import MessengerShiftConfig, MessengerTransformerConfig
from vislab.config import from_dict, to_dict
from vislab.engine.config import RunConfig
from vislab.losses.trajectory_criterion import tevit_losses
from vislab.models.presets import queryinst, tevit_r50
from vislab.models.presets import tevit as tevit_model
from vislab.report.tables.files import read_table, table_path
from vislab.study.declare import SCALES, Table

PAPER = tevit.PAPER
NUMBERS = json.loads((Path(tevit.__file__).parent / "papers" / "tevit.json").read_text())


def configuration(table: Table, row: int, scale: str = "paper") -> Any:
    return PAPER.configuration(table, table.row(row), scale)


def test_all_twelve_tables() -> None:
    *published, own = PAPER.tables
    assert [table.id for table in published] == [f"T{number}" for number in range(1, 13)]
    assert [len(table.own_rows()) for table in published] == [2, 1, 1, 4, 3, 3, 4, 3, 4, 6, 3, 3]
    assert all(table.published for table in published)
    assert own.id == "X1" and not own.published


def test_x1_is_two_rows_of_table_4_with_more_steps() -> None:
    table4, own = PAPER.table("T4"), PAPER.table("X1")
    for ours, theirs in ((0, 0), (1, 3)):
        short, long = configuration(table4, theirs, "tiny"), configuration(own, ours, "tiny")
        assert long.train.steps == 4 * short.train.steps
        assert replace(long, train=short.train) == short


@pytest.mark.parametrize("numbers", NUMBERS["tables"], ids=lambda numbers: numbers["id"])
def test_reported_numbers_are_the_papers(numbers: dict[str, Any]) -> None:
    table = PAPER.table(numbers["id"])
    assert [row.index for row in table.own_rows()] == numbers["own_rows"]
    printed = [name for name in numbers["columns"] if name in ("FPS", "GFLOPs", "AP", "AP50", "AP75", "AR1", "AR10")]
    assert list(table.columns[: len(printed)]) == printed
    for row, record in zip(table.rows, numbers["rows"], strict=True):
        assert row.reported == {column: record[column] for column in printed}


def test_numbers_file_holds_numbers_and_labels_only() -> None:
    assert set(NUMBERS) == {"paper", "title", "tables"}
    for table in NUMBERS["tables"]:
        assert set(table) == {"id", "dataset", "columns", "own_rows", "rows"}
        assert all(list(row) == table["columns"] for row in table["rows"])


def test_base_is_the_released_model_and_its_losses() -> None:
    run = PAPER.base("paper")
    assert run.model == tevit_model("paper") and run.criterion == tevit_losses()
    assert run.train.steps * run.train.batch_size == 147_200 and run.evaluation.clips is None


def test_parts_of_table_4() -> None:
    neither, shift, interaction, both = (configuration(tevit.T4, row).model for row in range(4))
    assert neither == queryinst("paper")
    assert shift == replace(both, query_interaction="spatial")
    assert interaction == replace(neither, query_interaction="spatiotemporal")
    assert both == tevit_model("paper")


def test_backbones() -> None:
    kinds = [type(configuration(tevit.T6, row).model.backbone.aggregation) for row in range(3)]
    assert kinds == [type(None), MessengerTransformerConfig, MessengerShiftConfig]
    assert all(configuration(tevit.T6, row).model.backbone.num_tokens == 32 for row in range(3))
    kinds = [type(configuration(tevit.T7, row).model.backbone.aggregation) for row in range(4)]
    assert kinds == [type(None), FrameConvolutionConfig, FrameTransformerConfig, MessengerShiftConfig]
    assert [configuration(tevit.T7, row).model.backbone.num_tokens for row in range(4)] == [0, 0, 0, 32]
    assert [configuration(tevit.T8, row).model.backbone.num_tokens for row in range(3)] == [8, 16, 32]
    assert [configuration(tevit.T8, row, "tiny").model.backbone.num_tokens for row in range(3)] == [4, 8, 16]
    assert configuration(tevit.T8, 0, "tiny").train_key == PAPER.base("tiny").train_key
    for row, mode in ((2, "spatial"), (3, "spatiotemporal")):
        for scale in SCALES:
            model = configuration(tevit.T11, row, scale).model
            assert model == replace(tevit_r50(scale), query_interaction=mode)


def test_interactions_and_clips() -> None:
    modes = [configuration(tevit.T5, row).model.query_interaction for row in range(3)]
    assert modes == ["spatial", "fused", "spatiotemporal"]
    assert [configuration(tevit.T9, row).sampling.clip_length for row in range(4)] == [2, 3, 5, 7]
    clips = [configuration(tevit.T10, row).evaluation.clips for row in range(6)]
    printed = [(record["infer_T"], record["infer_S"]) for record in NUMBERS["tables"][9]["rows"]]
    assert [(clip.clip_length, clip.clip_stride) for clip in clips[:5]] == printed[:5] and clips[5] is None
    linking = clips[0].stitching
    assert (linking.mask_weight, linking.box_weight) == (1.0, 1.0)
    assert linking.class_weight == linking.score_weight == linking.centre_weight == 0


@pytest.mark.parametrize("scale", SCALES)
def test_near_online_clips_are_shorter_than_the_videos(scale: str) -> None:
    for table, row in ((tevit.T2, 4), (tevit.T3, 5), *((tevit.T10, row) for row in range(5))):
        evaluation = configuration(table, row, scale).evaluation
        assert evaluation.clips is not None
        assert evaluation.data.length is None or evaluation.clips.clip_length < evaluation.data.length


@pytest.mark.parametrize("scale", SCALES)
def test_tables_10_and_12_are_one_training(scale: str) -> None:
    """That of the base, evaluated in other ways."""
    base = PAPER.base(scale)
    for table in (tevit.T10, tevit.T12):
        runs = [configuration(table, row.index, scale) for row in table.rows]
        assert {run.train_key for run in runs} == {base.train_key}
        assert len({run.eval_key for run in runs}) == len(runs)
    assert configuration(tevit.T12, 0, scale).eval_key == base.eval_key


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((tevit.T4, 1), (tevit.T5, 0)),
        ((tevit.T4, 2), (tevit.T7, 0)),
        ((tevit.T4, 3), (tevit.T1, 20)),
        ((tevit.T4, 3), (tevit.T5, 2)),
        ((tevit.T4, 3), (tevit.T6, 2)),
        ((tevit.T4, 3), (tevit.T7, 3)),
        ((tevit.T4, 3), (tevit.T8, 2)),
        ((tevit.T4, 3), (tevit.T9, 2)),
        ((tevit.T4, 3), (tevit.T10, 5)),
    ],
    ids=lambda place: f"{place[0].id}-{place[1]}",
)
def test_rows_that_the_paper_prints_twice_share_one_training(
    first: tuple[Table, int], second: tuple[Table, int]
) -> None:
    assert configuration(*first, "small").train_key == configuration(*second, "small").train_key
    assert first[0].row(first[1]).reported["AP"] == second[0].row(second[1]).reported["AP"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_survives_json(scale: str) -> None:
    run = PAPER.base(scale)
    assert run.scale == scale
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(run)))) == run


def test_pretraining_is_queryinst_on_stills() -> None:
    assert tevit.images("smoke") is None and tevit.resnet_images("smoke") is None
    for scale in SCALES[1:]:
        run = tevit.images(scale)
        assert run is not None and run.model == queryinst(scale) and run.sampling.clip_length == 1
        assert run.data.name == run.evaluation.data.name == "synthetic-coco"


def test_rows_with_a_resnet_start_from_one() -> None:
    own = {row.index: row.pretraining for row in tevit.T11.rows if row.own}
    assert own == dict.fromkeys((2, 3, 4), tevit.RESNET_IMAGES)
    for scale in SCALES[1:]:
        run, row = tevit.resnet_images(scale), PAPER.configuration(tevit.T11, tevit.T11.row(2), scale)
        assert run is not None and run.model == row.model and run.sampling.clip_length == 1


def test_operations_of_table_4() -> None:
    """0.29 G for the tokens, 0.16 G for the second pass of attention's projections, and its products."""
    values = [PAPER.static_values(tevit.T4, row, "paper") for row in tevit.T4.rows]
    assert [value["GFLOPs"] for value in values] == pytest.approx([84.226, 84.513, 84.383, 84.671], abs=1e-3)
    assert values[3]["GFLOPs_attention"] == pytest.approx(86.79, abs=0.01)
    parameters = [1e6 * value["params_unique_M"] for value in values]
    assert parameters == pytest.approx([161_832_520, 161_832_616, 161_832_520, 161_832_616])


def test_a_row_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T12's last, with tokens that were not learned, through training, inference and the report."""
    short = replace(PAPER.base("smoke"), train=replace(PAPER.base("smoke").train, steps=1))
    monkeypatch.setattr(reproduce_table, "PAPERS", {"tevit": replace(PAPER, base=lambda scale: short)})
    folders = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    options = ["tevit", "T12", "--scale", "smoke", "--rows", "2", "--data", tevit.CLEAN, "--device", "cpu"]
    assert main([*options, *folders]) == 0
    found = read_table(table_path(tmp_path / "reports", "smoke", "tevit", "T12"))
    assert found.loc[(found["row"] == 2) & (found["metric"] == "AP"), "status"].tolist() == ["measured"]
