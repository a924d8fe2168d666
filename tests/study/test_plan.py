"""Rows x data sets x seeds to runs, equal ones once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vislab.engine.config import RunConfig, file_sha256
from vislab.errors import UserError
from vislab.records import RunStore, write_json
from vislab.study.declare import Paper, Pretraining, Reading
from vislab.study.plan import dataset_label, evaluations, jobs, on_dataset, plan_table

CLEAN, FAINT = "synthetic-ytvis19", "synthetic-ytvis19+faint=0.1"


def finish(store: RunStore, train_key: str, eval_key: str) -> None:
    write_json(store.eval_dir(train_key, eval_key) / "result.json", {"metrics": {}})


def test_every_row_data_set_and_seed_is_planned_in_order(paper: Paper) -> None:
    planned = plan_table(paper, paper.table("T1"), "tiny", seeds=2)
    places = [(run.row.index, run.dataset, run.seed) for run in planned]
    assert places == [(row, data, seed) for row in (0, 1) for data in (FAINT, CLEAN) for seed in (0, 1)]
    assert all(run.config.seed == run.seed and run.config.data.name == run.dataset for run in planned)
    assert all(run.config.evaluation.data.name == run.dataset for run in planned)
    assert len({run.train_key for run in planned}) == len(planned)


def test_rows_of_others_and_unavailable_rows_have_no_runs(paper: Paper) -> None:
    assert {run.row.index for run in plan_table(paper, paper.table("T2"), "tiny", seeds=1)} == {0, 1}
    assert {run.row.index for run in plan_table(paper, paper.table("T2"), "small", seeds=1)} == {0, 1, 2}


def test_datasets_replace_the_declared_ones(paper: Paper) -> None:
    planned = plan_table(paper, paper.table("T1"), "tiny", seeds=1, datasets=["synthetic-ovis"])
    assert [run.dataset for run in planned] == ["synthetic-ovis"] * 2


def test_equal_configurations_run_once_across_tables(paper: Paper, tmp_path: Path) -> None:
    planned = [run for table in paper.tables for run in plan_table(paper, table, "tiny", seeds=1)]
    assert len(planned) == 6
    assert len({run.train_key for run in planned}) == 4  # T1: two rows on two sets; T2's rows train as T1 row 0 does
    left = jobs(planned, RunStore(tmp_path))
    assert len(left) == 4
    assert sorted(len(job.runs) for job in left) == [1, 1, 1, 2]


def test_rows_that_differ_at_inference_share_one_job(paper: Paper, tmp_path: Path) -> None:
    (job,) = jobs(plan_table(paper, paper.table("T2"), "tiny", seeds=1), RunStore(tmp_path))
    assert [run.evaluation.top_k for run in job.runs] == [10, 5]
    assert {run.train_key for run in job.runs} == {job.train_key}
    assert job.keys(1) == (job.train_key, job.runs[1].eval_key)


def test_finished_runs_are_not_done_again(paper: Paper, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    planned = plan_table(paper, paper.table("T2"), "tiny", seeds=1)
    finish(store, planned[0].train_key, planned[0].eval_key)
    (job,) = jobs(planned, store)
    assert [run.evaluation.top_k for run in job.runs] == [5]
    finish(store, planned[1].train_key, planned[1].eval_key)
    assert jobs(planned, store) == []


def test_scale_is_part_of_the_key(paper: Paper) -> None:
    tiny, small = (plan_table(paper, paper.table("T2"), scale, seeds=1)[0] for scale in ("tiny", "small"))
    assert tiny.train_key != small.train_key


def test_model_gets_the_classes_of_the_data(paper: Paper) -> None:
    run = on_dataset(paper.base("tiny"), CLEAN)
    assert run.model.num_classes == 8
    many = replace(paper.base("tiny"), data=replace(run.data, num_categories=25))
    assert on_dataset(many, CLEAN).model.num_classes == 25


def test_real_data_is_taken_as_it_is(paper: Paper, real_data: Path) -> None:
    run: RunConfig = on_dataset(paper.base("tiny"), str(real_data / "real-mini"))
    assert run.data.height is None and run.data.num_videos is None and run.data.length is None
    assert run.model.num_classes == 12
    assert run.evaluation.data == run.data


def test_reports_do_not_name_the_folders_of_a_machine() -> None:
    assert dataset_label("/home/someone/data/real-mini") == "real-mini"
    assert dataset_label("data/ovis/") == "ovis"
    assert dataset_label("synthetic-ytvis19+faint=0.1") == "synthetic-ytvis19+faint=0.1"


def test_unknown_data_is_a_user_error(paper: Paper) -> None:
    with pytest.raises(UserError, match="nowhere"):
        plan_table(paper, paper.table("T1"), "tiny", seeds=1, datasets=["nowhere"])


def test_rows_start_from_the_pretrained_weights(paper: Paper, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    made = replace(paper, pretraining=Pretraining(lambda scale: paper.base(scale), lambda scale: weights))
    with pytest.raises(UserError, match=r"weights.safetensors.*missing.*--pretrain --scale tiny"):
        plan_table(made, made.table("T1"), "tiny", seeds=1)
    weights.write_bytes(b"weights")
    init = plan_table(made, made.table("T1"), "tiny", seeds=1)[0].config.init
    assert init is not None and init.sha256 == file_sha256(weights)
    afresh = replace(paper, pretraining=Pretraining(lambda scale: None, lambda scale: weights))
    assert plan_table(afresh, made.table("T1"), "tiny", seeds=1)[0].config.init is None


def test_planned_configurations_survive_json(paper: Paper) -> None:
    """Workers get their runs as JSON; the keys must not change on the way."""
    from vislab.config import from_dict, to_dict

    run = plan_table(paper, paper.table("T1"), "tiny", seeds=1)[0].config
    back = from_dict(RunConfig, json.loads(json.dumps(to_dict(run))))
    assert (back.train_key, back.eval_key) == (run.train_key, run.eval_key)


def test_parts_that_start_fresh_are_part_of_the_key(paper: Paper, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    subject = replace(paper, pretraining=Pretraining(lambda scale: paper.base(scale), lambda scale: weights))
    table = subject.table("T1")
    fresh = replace(table, rows=tuple(replace(row, fresh=("mask_head.",)) for row in table.rows))
    plain, parts = (plan_table(subject, each, "tiny", seeds=1) for each in (table, fresh))
    assert all(run.config.init is not None and run.config.init.without == ("mask_head.",) for run in parts)
    assert all(run.config.init is not None and run.config.init.without == () for run in plain)
    assert not {run.train_key for run in plain} & {run.train_key for run in parts}


def test_a_row_may_start_elsewhere(paper: Paper, tmp_path: Path) -> None:
    usual, other = tmp_path / "usual.safetensors", tmp_path / "other.safetensors"
    usual.write_bytes(b"usual")
    subject = replace(paper, pretraining=Pretraining(lambda scale: paper.base(scale), lambda scale: usual))
    table = subject.table("T1")
    own = replace(table.rows[1], pretraining=Pretraining(lambda scale: paper.base(scale), lambda scale: other))
    table = replace(table, rows=(table.rows[0], own))
    with pytest.raises(UserError, match=r"other.safetensors.*missing.*reproduce_table.py p --pretrain --scale tiny"):
        plan_table(subject, table, "tiny", seeds=1)
    other.write_bytes(b"other")
    starts = {run.row.index: run.config.init for run in plan_table(subject, table, "tiny", seeds=1)}
    assert [start.sha256 for start in starts.values() if start] == [file_sha256(usual), file_sha256(other)]


def test_columns_that_another_evaluation_fills(paper: Paper) -> None:
    readings = {"few_AP": Reading("AP", {"evaluation.top_k": 2}), "few_AP50": Reading("AP50", {"evaluation.top_k": 2})}
    table = replace(
        paper.table("T1"), columns=("few_AP", "few_AP50", "AP", "params_M"), static=("params_M",), readings=readings
    )
    own, few = evaluations(table)
    assert own == ({}, {"AP": "AP"}) and few == ({"evaluation.top_k": 2}, {"few_AP": "AP", "few_AP50": "AP50"})
    planned = plan_table(paper, table, "tiny", seeds=2)
    assert len(planned) == 2 * len(plan_table(paper, paper.table("T1"), "tiny", seeds=2))
    first, second = planned[:2]
    assert first.train_key == second.train_key and first.eval_key != second.eval_key
    assert (first.config.evaluation.top_k, second.config.evaluation.top_k) == (10, 2)
    assert first.columns == {"AP": "AP"} and second.columns == few[1]
    assert evaluations(paper.table("T1")) == [({}, {})] and planned[2].row is first.row
