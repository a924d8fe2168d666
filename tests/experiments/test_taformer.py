"""TAFormer's tables: the paper's numbers, and rows that are what their labels say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import taformer
from scales import CLEAN

from vislab.blocks.fusion import AdditionConfig, ConcatenationConfig, DynamicAttentionFusionConfig
from vislab.config import from_dict, to_dict
from vislab.engine.config import RunConfig
from vislab.models.presets import seqformer
from vislab.study.declare import SCALES, Table
from vislab.study.plan import plan_table

PAPER = taformer.PAPER
NUMBERS = json.loads((Path(taformer.__file__).parent / "papers" / "taformer.json").read_text())


def configuration(table: Table, row: int, scale: str = "paper") -> Any:
    return PAPER.configuration(table, table.row(row), scale)


def planned_keys(table: Table, row: int) -> set[str]:
    """Training keys of a row on the clean set."""
    runs = plan_table(PAPER, table, "smoke", seeds=1, datasets=[CLEAN])
    return {run.train_key for run in runs if run.row.index == row}


def test_all_seven_tables_and_those_of_our_own() -> None:
    assert [table.id for table in PAPER.tables[:7]] == ["T1", "T2", "T3", "T4", "T5", "T6", "T7"]
    assert [len(table.own_rows()) for table in PAPER.tables[:7]] == [3, 1, 4, 3, 4, 3, 4]
    assert [table.published for table in PAPER.tables] == [table.id.startswith("T") for table in PAPER.tables]


@pytest.mark.parametrize("numbers", NUMBERS["tables"], ids=lambda numbers: numbers["id"])
def test_reported_numbers_are_the_papers(numbers: dict[str, Any]) -> None:
    table = PAPER.table(numbers["id"])
    assert [row.index for row in table.own_rows()] == numbers["own_rows"]
    assert len(table.rows) == len(numbers["rows"])
    printed = [column for column in numbers["columns"] if column in ("params_M", "AP", "AP50", "AP75", "AR1", "AR10")]
    assert list(table.columns) == printed
    for row, record in zip(table.rows, numbers["rows"], strict=True):
        assert row.reported == {column: record[column] for column in printed}


def test_numbers_file_holds_numbers_and_labels_only() -> None:
    assert set(NUMBERS) == {"paper", "title", "tables"}
    for table in NUMBERS["tables"]:
        assert set(table) == {"id", "dataset", "columns", "own_rows", "rows"}


def test_baseline_is_seqformer() -> None:
    assert configuration(taformer.T3, 0).model == seqformer("paper")
    assert configuration(taformer.T3, 0).criterion.contrastive is None


def test_parts_are_added_one_by_one() -> None:
    encoder, decoder, full = (configuration(taformer.T3, row) for row in (1, 2, 3))
    assert encoder.model.encoder.temporal is not None and encoder.model.temporal_position is not None
    assert encoder.model.decoder.temporal_attention is None and encoder.criterion.contrastive is None
    assert decoder.model.decoder.temporal_attention is not None and decoder.criterion.contrastive is None
    assert full == PAPER.base("paper")
    assert full.criterion.contrastive is not None and full.criterion.contrastive.auxiliary


def test_fusions() -> None:
    kinds = [type(configuration(taformer.T4, row).model.encoder.fusion) for row in range(3)]
    assert kinds == [AdditionConfig, ConcatenationConfig, DynamicAttentionFusionConfig]


def test_levels() -> None:
    one, _, both, _ = (configuration(taformer.T5, row).model for row in range(4))
    assert one.encoder.spatial.levels == (2,) and one.encoder.temporal is None
    assert both.encoder.temporal is not None and both.encoder.temporal.levels == (2,)


def test_contrastive_loss_and_points() -> None:
    losses = [configuration(taformer.T6, row).criterion.contrastive for row in range(3)]
    assert [loss and loss.auxiliary for loss in losses] == [None, False, True]
    points = [configuration(taformer.T7, row).model.encoder.temporal.num_points for row in range(4)]
    assert points == [1, 2, 3, 4]


def test_equal_time_control_trains_longer() -> None:
    baseline, longer = (configuration(taformer.X1, row, "tiny").train.steps for row in (0, 4))
    assert longer > 1.3 * baseline


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((taformer.T3, 1), (taformer.T4, 2)),
        ((taformer.T3, 0), (taformer.T5, 1)),
        ((taformer.T3, 1), (taformer.T5, 3)),
        ((taformer.T3, 2), (taformer.T6, 0)),
        ((taformer.T3, 3), (taformer.T6, 2)),
        ((taformer.T3, 3), (taformer.T7, 3)),
        ((taformer.T3, 3), (taformer.T1, 12)),
        ((taformer.T3, 0), (taformer.X1, 0)),
        ((taformer.T3, 1), (taformer.X1, 1)),
    ],
    ids=lambda place: f"{place[0].id}-{place[1]}",
)
def test_rows_that_the_paper_prints_twice_share_one_run(first: tuple[Table, int], second: tuple[Table, int]) -> None:
    """They may be evaluated on more videos. Their reported numbers agree, too, where both tables are the paper's."""
    assert configuration(*first, "smoke").train_key == configuration(*second, "smoke").train_key
    if all(table.row(row).runs_at("smoke") for table, row in (first, second)):
        assert planned_keys(*first) == planned_keys(*second)
    if second[0].published:
        assert first[0].row(first[1]).reported["AP"] == second[0].row(second[1]).reported["AP"]


def test_data_sets_follow_the_claims() -> None:
    assert taformer.T3.datasets == (taformer.FAINT, CLEAN)
    assert taformer.T6.datasets == (taformer.LOOKALIKES, CLEAN)
    assert taformer.T2.datasets == ("synthetic-ytvis21",)


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_survives_json(scale: str) -> None:
    run = PAPER.base(scale)
    assert run.scale == scale
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(run)))) == run


def test_large_backbones_say_why_they_do_not_run() -> None:
    for row in (18, 21):
        assert not taformer.T1.row(row).runs_at("tiny") and "backbone" in taformer.T1.row(row).unavailable["tiny"]
        assert "pre-trained" in taformer.T1.row(row).unavailable["paper"]
    assert taformer.T1.row(12).runs_at("tiny") and taformer.T1.row(12).runs_at("paper")


def test_tiny_is_measured_on_at_least_200_videos() -> None:
    assert PAPER.base("tiny").evaluation.data.num_videos >= 200


def test_pretraining_is_the_baseline_on_rotated_stills() -> None:
    assert taformer.pretraining("smoke") is None
    for scale in ("small", "paper"):
        run = taformer.pretraining(scale)
        assert run is not None and run.model.encoder.temporal is None
        assert run.data.name == "synthetic-coco" and run.sampling.rotation_degrees == 20.0


def test_tiny_pretraining_has_no_temporal_part() -> None:
    run = taformer.pretraining("tiny")
    assert run is not None and run.scale == "tiny" and run.init is None
    assert run.model.encoder.temporal is None and run.model.decoder.temporal_attention is None
    assert run.criterion.contrastive is None
