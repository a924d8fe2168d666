"""RunConfig: what changes its keys, what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vislab.config import from_dict, replace_path, to_dict
from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, InitialWeights, RunConfig, TrainConfig
from vislab.errors import UserError
from vislab.losses.criterion import CriterionConfig
from vislab.models.seqformer import SeqFormerConfig

DATA = DatasetConfig("synthetic-ytvis19")
RUN = RunConfig(
    model=SeqFormerConfig(),
    criterion=CriterionConfig(),
    train=TrainConfig(steps=100, batch_size=4),
    data=DATA,
    sampling=SamplingConfig(),
    evaluation=EvalConfig(DATA),
    init=InitialWeights("a/weights.safetensors", "0" * 64),
)


def test_a_run_survives_json() -> None:
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(RUN)))) == RUN
    assert from_dict(RunConfig, to_dict(RUN)).eval_key == RUN.eval_key


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.num_queries", 10), ("criterion.box_weight", 1.0), ("train.steps", 101), ("data.seed", 1),
        ("sampling.flip", 0.0), ("init", None), ("init.sha256", "1" * 64), ("seed", 1), ("scale", "small"),
    ],
)  # fmt: skip
def test_everything_that_shapes_the_weights_changes_both_keys(path: str, value: Any) -> None:
    changed = replace_path(RUN, path, value)
    assert changed.train_key != RUN.train_key and changed.eval_key != RUN.eval_key


@pytest.mark.parametrize(
    ("path", "value"),
    [("evaluation.top_k", 20), ("evaluation.data.num_videos", 5), ("evaluation.mask_alignment", "interpolate")],
)
def test_the_evaluation_changes_its_own_key_only(path: str, value: Any) -> None:
    changed = replace_path(RUN, path, value)
    assert changed.train_key == RUN.train_key and changed.eval_key != RUN.eval_key


def test_where_the_initial_weights_lie_changes_no_key() -> None:
    moved = replace_path(RUN, "init.path", "elsewhere")
    assert (moved.train_key, moved.eval_key) == (RUN.train_key, RUN.eval_key)


def test_every_field_is_covered_by_a_key() -> None:
    """A new field must enter the train key unless it is said to be outside; this fails if one is forgotten."""
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert fields == {
        "model", "criterion", "train", "data", "sampling", "evaluation", "init", "seed", "scale",
    }  # fmt: skip


def test_initial_weights_are_known_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"abc")
    assert InitialWeights.of(tmp_path / "w").sha256 == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": -1}, ["train.steps", "-1"]),
        ({"batch_size": 0}, ["train.batch_size", "0"]),
        ({"micro_batch": 3}, ["train.micro_batch", "3", "divisor", "4"]),
        ({"micro_batch": 0}, ["train.micro_batch", "0"]),
        ({"milestones": (0.8, 0.5)}, ["train.milestones", "ascending"]),
        ({"milestones": (0.5, 1.5)}, ["train.milestones"]),
        ({"checkpoint_every": 0}, ["train.checkpoint_every"]),
        ({"log_every": 0}, ["train.log_every"]),
        ({"learning_rate": -1.0}, ["train.learning_rate", "-1.0"]),
        ({"warmup_steps": 101}, ["train.warmup_steps", "101", "0 to 100"]),
    ],
)
def test_impossible_training_is_refused(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        replace(RUN.train, **changes)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("changes", [{"top_k": 0}, {"mask_threshold": 1.0}, {"score_threshold": -0.1}])
def test_impossible_evaluation_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"evaluation.{next(iter(changes))}"):
        replace(RUN.evaluation, **changes)
