"""RunConfig: what changes its keys, what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig
from vislab.config import from_dict, replace_path, to_dict, with_changes
from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, InitialWeights, RunConfig, TrainConfig
from vislab.errors import UserError
from vislab.losses.criterion import CriterionConfig
from vislab.losses.mask_criterion import MaskCriterionConfig
from vislab.losses.refinevis_criterion import RefineVISCriterionConfig
from vislab.losses.trajectory_criterion import TrajectoryCriterionConfig, tevit_losses
from vislab.models.devis import DevisConfig
from vislab.models.mask2former_vis import Mask2FormerVISConfig
from vislab.models.refinevis import RefineVISConfig
from vislab.models.seqformer import SeqFormerConfig
from vislab.models.tevit import TeViTConfig
from vislab.models.vistr import VisTRConfig
from vislab.stitching.augmentation import TestTimeAugmentationConfig
from vislab.stitching.config import ClipInferenceConfig
from vislab.stitching.video_stream import StreamConfig

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
DEVIS = replace(
    RUN,
    model=DevisConfig(),
    criterion=TrajectoryCriterionConfig(),
    train=TrainConfig(steps=100, batch_size=4, multipliers=(("mask_head", 10.0), ("class_heads", 0.0))),
    sampling=SamplingConfig(clip_length=6),
    evaluation=EvalConfig(DATA, clips=ClipInferenceConfig()),
)
VISTR = replace(DEVIS, model=VisTRConfig(), sampling=SamplingConfig(clip_length=36), evaluation=EvalConfig(DATA))
TEVIT = replace(RUN, model=TeViTConfig(), criterion=tevit_losses())
MASK2FORMER = replace(RUN, model=Mask2FormerVISConfig(), criterion=MaskCriterionConfig())
REFINEVIS = replace(
    RUN,
    model=RefineVISConfig(),
    criterion=RefineVISCriterionConfig(),
    evaluation=EvalConfig(DATA, stream=StreamConfig()),
)


@pytest.mark.parametrize("run", [RUN, DEVIS, VISTR, TEVIT, MASK2FORMER, REFINEVIS])
def test_a_run_survives_json(run: RunConfig) -> None:
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(run)))) == run
    assert from_dict(RunConfig, to_dict(run)).eval_key == run.eval_key


def test_clip_lengths_are_changed_together() -> None:
    lengths = {"model.clip_length": 3, "sampling.clip_length": 3, "evaluation.clips.clip_length": 3}
    changed = with_changes(DEVIS, lengths | {"evaluation.clips.clip_stride": 1})
    assert changed.model.clip_length == changed.sampling.clip_length == changed.evaluation.clips.clip_length == 3


@pytest.mark.parametrize("path", ["sampling.clip_length", "evaluation.clips.clip_length"])
def test_a_model_for_clips_of_one_length_is_given_no_others(path: str) -> None:
    with pytest.raises(UserError, match=f"^{path} is 5, expected 6, as model.clip_length is$"):
        replace_path(DEVIS, path, 5)


def test_a_model_for_clips_of_any_length_is_trained_and_evaluated_with_any() -> None:
    changes = {"sampling.clip_length": 2, "evaluation.clips": ClipInferenceConfig(clip_length=9)}
    assert with_changes(RUN, changes).model.clip_length is None


@pytest.mark.parametrize(
    ("run", "criterion", "expected"),
    [
        (DEVIS, CriterionConfig(), "CriterionConfig', expected TrajectoryCriterionConfig.*DevisConfig"),
        (RUN, TrajectoryCriterionConfig(), "TrajectoryCriterionConfig', expected CriterionConfig.*SeqFormerConfig"),
    ],
)
def test_the_criterion_fits_the_model(run: RunConfig, criterion: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        replace(run, criterion=criterion)


def test_cross_frame_losses_need_queries_of_frames() -> None:
    layer = InterFrameRecurrentConfig()
    recurrent = {"model.decoder.layer": layer, "criterion.cross_frame_weight": 0.3}
    assert with_changes(MASK2FORMER, recurrent).model.decoder.layer == layer
    with pytest.raises(UserError, match="^criterion.cross_frame_weight is 0.3, expected 0 for a model.decoder.layer"):
        replace_path(MASK2FORMER, "criterion.cross_frame_weight", 0.3)


def test_augmentation_is_for_whole_videos() -> None:
    augmentation = TestTimeAugmentationConfig((80, 96))
    changed = replace_path(RUN, "evaluation.augmentation", augmentation)
    assert changed.train_key == RUN.train_key and changed.eval_key != RUN.eval_key
    with pytest.raises(UserError, match="evaluation.augmentation is for whole videos"):
        replace_path(changed, "evaluation.clips", ClipInferenceConfig())
    with pytest.raises(UserError, match=r"evaluation.augmentation.short_sides is \(\), expected at least one"):
        TestTimeAugmentationConfig(())


def test_models_of_single_frames_are_evaluated_frame_by_frame() -> None:
    with pytest.raises(
        UserError, match="^evaluation.stream is None, expected a StreamConfig: RefineVIS predicts single"
    ):
        replace(REFINEVIS, evaluation=EvalConfig(DATA))
    with pytest.raises(
        UserError, match="^evaluation.stream is 'StreamConfig', expected None: SeqFormerConfig takes cl"
    ):
        replace(RUN, evaluation=REFINEVIS.evaluation)
    with pytest.raises(
        UserError, match="evaluation.clips is for models of clips, expected None where evaluation.stream"
    ):
        replace_path(REFINEVIS, "evaluation.clips", ClipInferenceConfig())
    with pytest.raises(UserError, match="CriterionConfig', expected RefineVISCriterionConfig, .* RefineVISConfig"):
        replace(REFINEVIS, criterion=CriterionConfig())


def test_a_window_of_inference_needs_something_that_refines() -> None:
    for window in (None, 0):
        with_changes(REFINEVIS, {"model.tar": None, "evaluation.stream.window": window})
    expected = "^evaluation.stream.window is 4, expected None or 0 where model.tar is None"
    with pytest.raises(UserError, match=expected):
        with_changes(REFINEVIS, {"model.tar": None, "evaluation.stream.window": 4})


@pytest.mark.parametrize(
    ("path", "value"),
    [("evaluation.stream.window", 4), ("evaluation.stream.mode", "offline"), ("model.tar.window", 4)],
)
def test_how_a_video_is_streamed_is_no_part_of_its_training(path: str, value: Any) -> None:
    changed = replace_path(REFINEVIS, path, value)
    assert changed.train_key == REFINEVIS.train_key and changed.eval_key != REFINEVIS.eval_key


def test_options_that_came_later_leave_the_keys_of_earlier_runs_alone() -> None:
    """Keys of finished runs stand in committed results: these two were computed before the options existed."""
    run = replace(RUN, train=replace(RUN.train, multipliers=()), evaluation=replace(RUN.evaluation, clips=None))
    assert (run.train_key, run.eval_key) == ("ca8f1ab0c434e70b", "5ae823013fd3bc2f")


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


def test_what_a_model_does_at_inference_only_changes_the_evaluation_s_key_only() -> None:
    changed = replace_path(TEVIT, "model.backbone.inference_tokens", "zero")
    assert changed.train_key == TEVIT.train_key and changed.eval_key != TEVIT.eval_key
    again = replace_path(changed, "model.backbone.inference_tokens", "random")
    assert again.eval_key not in (changed.eval_key, TEVIT.eval_key)


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
        ({"multipliers": (("head", -0.5),)}, ["train.multipliers", "'head'", "-0.5"]),
    ],
)
def test_impossible_training_is_refused(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        replace(RUN.train, **changes)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    "changes", [{"top_k": 0}, {"mask_threshold": 1.0}, {"score_threshold": -0.1}, {"short_side": 0}, {"max_side": -5}]
)
def test_impossible_evaluation_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"evaluation.{next(iter(changes))}"):
        replace(RUN.evaluation, **changes)
