"""Pre-training: nothing is done twice, and the weights say what made them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import taformer
import torch
from pretrain import make_weights
from rich.console import Console
from safetensors.torch import load_file, save_file

from vislab.engine.config import file_sha256
from vislab.errors import UserError
from vislab.records import RunStore, write_json
from vislab.study.declare import Pretraining


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
