"""Pre-training: nothing is done twice, and the weights say what made them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ifr
import pretrain
import pytest
import taformer
import torch
from pretrain import make_weights
from rich.console import Console
from safetensors.torch import load_file, save_file

from vislab.engine.config import file_sha256
from vislab.errors import UserError
from vislab.records import RunStore, write_json
from vislab.study.declare import Paper, Pretraining
from vislab.study.launch import Outcome
from vislab.study.plan import Job, initial_weights


def test_finished_pretraining_is_published(tmp_path: Path) -> None:
    store, target = RunStore(tmp_path / "runs"), tmp_path / "weights" / "tiny.safetensors"
    run = taformer.pretraining("tiny")
    assert run is not None
    folder = store.train_dir(run.train_key)
    write_json(
        store.eval_dir(run.train_key, run.eval_key) / "result.json", {"train_seconds": 90, "metrics": {"AP": 0.5}}
    )
    weights = {"encoder.weight": torch.randn(3, 2), "steps": torch.ones(1)}
    save_file(weights, folder / "weights.safetensors")
    paper = replace(taformer.PAPER, pretraining=Pretraining(taformer.pretraining, lambda scale: target))
    assert make_weights(paper, "tiny", store, "cpu", Console(quiet=True)) == 0
    record = json.loads(target.with_suffix(".json").read_text())
    written = load_file(target)
    assert written.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(written[name].float(), tensor, atol=0, rtol=1e-3)
    assert record["sha256"] == file_sha256(target)
    assert record["command"] == "reproduce_table.py taformer --pretrain --scale tiny"
    assert record["train_key"] == run.train_key and record["train_minutes"] == 1.5 and record["metrics"] == {"AP": 0.5}


def test_a_scale_that_starts_afresh_has_nothing_to_pretrain(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--pretrain.*smoke"):
        make_weights(taformer.PAPER, "smoke", RunStore(tmp_path), "cpu", Console(quiet=True))


@pytest.mark.parametrize("paper", [taformer.PAPER, ifr.PAPER])
def test_scale_paper_asks_for_weights_that_it_cannot_make(paper: Paper, tmp_path: Path) -> None:
    """Not trained on the stand-in for COCO, from a random backbone: the rows would pass as the paper's."""
    with pytest.raises(UserError, match="needs COCO and a backbone from ImageNet.*-paper.safetensors"):
        make_weights(paper, "paper", RunStore(tmp_path), "cpu", Console(quiet=True))
    with pytest.raises(UserError, match="-paper.safetensors: the pre-trained weights .* such as load_official makes"):
        initial_weights(paper, "paper")
    for row in (row for table in paper.tables for row in table.rows if "ResNet-101" in row.label and row.own):
        assert "ResNet-101 weights" in row.unavailable["paper"], "those of another backbone would fit in part"


def test_phases_are_made_in_order_and_start_from_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def finished(jobs: list[Job], store: RunStore, display: object, **_: object) -> Outcome:
        (run,) = jobs[0].runs
        made.append((run.train.steps, run.init))
        folder = store.train_dir(run.train_key)
        record = {"train_seconds": 60, "metrics": {}}
        write_json(store.eval_dir(run.train_key, run.eval_key) / "result.json", record)
        save_file({"w": torch.full((1,), float(run.train.steps))}, folder / "weights.safetensors")
        return Outcome()

    def phase(steps: int, name: str, after: Pretraining | None = None) -> Pretraining:
        base = taformer.PAPER.base("smoke")
        run = replace(base, train=replace(base.train, steps=steps))
        return Pretraining(lambda scale: run, lambda scale: tmp_path / f"{name}.safetensors", after)

    monkeypatch.setattr(pretrain, "launch", finished)
    images, other = phase(1, "images"), phase(3, "other")
    table = taformer.PAPER.tables[0]
    rows = tuple(replace(row, pretraining=other) if row.own else row for row in table.rows)
    paper = replace(taformer.PAPER, pretraining=phase(2, "videos", images), tables=(replace(table, rows=rows),))
    store = RunStore(tmp_path / "runs")
    assert make_weights(paper, "tiny", store, "cpu", Console(quiet=True)) == 0
    assert [steps for steps, _ in made] == [3, 1, 2]
    assert made[0][1] is made[1][1] is None and made[2][1] is not None
    assert made[2][1].sha256 == file_sha256(tmp_path / "images.safetensors")
    assert make_weights(paper, "tiny", store, "cpu", Console(quiet=True)) == 0 and len(made) == 3
