"""Models with logits in every frame learn a few synthetic clips: through the loop, the criterion and the optimiser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_fakes import FakeModel, FakeVideos
from engine_runs import BACKBONE, small_run
from safetensors.torch import load_file
from torch import Tensor, nn

from vislab.blocks.region_mask_head import RegionMaskHeadConfig
from vislab.data.sampling import SamplingConfig, training_batch
from vislab.engine.checkpoint import TrainingState
from vislab.engine.config import EvalConfig, RunConfig, TrainConfig
from vislab.engine.optimizer import build_optimizer
from vislab.engine.progress import Silent
from vislab.engine.run import execute
from vislab.engine.seeding import seed_torch
from vislab.engine.train import MicroBatch, train
from vislab.losses.trajectory_criterion import TrajectoryCriterionConfig, tevit_losses
from vislab.models.devis import DevisConfig
from vislab.models.msgshift import MsgShiftConfig
from vislab.models.tevit import TeViTConfig
from vislab.models.trajectory_decoder import TrajectoryDecoderConfig
from vislab.records import RunStore
from vislab.stitching.config import ClipInferenceConfig
from vislab.structures import Batch, ModelOutput

TRAIN = TrainConfig(steps=60, batch_size=2, learning_rate=3e-3, backbone_multiplier=1.0, clip_norm=1.0)


class FrameModel(FakeModel):
    """Classes of every frame, and an auxiliary output that predicts no masks."""

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        output = super().forward(images, padding_mask)
        assert output.frame_queries is not None
        logits = self.class_head(output.frame_queries).transpose(1, 2)
        early = ModelOutput(logits, output.pred_boxes, None)
        return replace(output, pred_logits=logits, aux_outputs=[early])


class Losses(Silent):
    def __init__(self) -> None:
        self.values: list[float] = []

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        if loss is not None:
            self.values.append(loss)

    @property
    def ratio(self) -> float:
        """Mean of the last ten losses relative to that of the first ten."""
        return sum(self.values[-10:]) / sum(self.values[:10])


@pytest.mark.parametrize("layer_weights", ["rising", "equal"])
def test_a_model_with_frame_logits_learns(layer_weights, tmp_path: Path) -> None:
    def load(part: MicroBatch) -> Batch:
        sampling = SamplingConfig(clip_length=3, flip=0.0)
        return training_batch(
            FakeVideos(2), sampling, batch_size=part.size, seed=1, step=0, first_sample=part.first_clip
        )

    seed_torch(1, "initial weights")
    model: nn.Module = FrameModel()
    criterion = TrajectoryCriterionConfig(layer_weights=layer_weights).build()
    state = TrainingState(model, criterion, build_optimizer(model, criterion, TRAIN))
    watcher = Losses()
    train(state, load, TRAIN, seed=1, folder=tmp_path, device=torch.device("cpu"), watcher=watcher)
    assert watcher.ratio < 0.7, watcher.ratio


def devis_run(**changes) -> RunConfig:
    """A one-layer encoder and a two-layer decoder on clips of three frames of 64x64."""
    run = small_run()
    model = DevisConfig(
        backbone=BACKBONE, num_classes=3, num_queries=4, clip_length=3, hidden_dim=32, num_heads=2, num_levels=3,
        dropout=0.0, encoder=replace(DevisConfig().encoder, num_layers=1, feed_forward_channels=32),
        decoder=TrajectoryDecoderConfig(num_layers=2, feed_forward_channels=32), mask_layers=(0,),
        reference_init="grid",
    )  # fmt: skip
    return replace(
        run,
        model=model,
        criterion=TrajectoryCriterionConfig(),
        train=replace(TRAIN, steps=30, learning_rate=2e-3, **changes),
        data=replace(run.data, length=4),
        sampling=SamplingConfig(clip_length=3, flip=0.0),
        evaluation=EvalConfig(run.data, clips=ClipInferenceConfig(clip_length=3, clip_stride=2)),
    )


def test_devis_learns_and_is_evaluated_by_clips(tmp_path: Path) -> None:
    watcher = Losses()
    result = execute(devis_run(), RunStore(tmp_path), "cpu", watcher, threads=1)
    assert watcher.ratio < 0.85, watcher.ratio
    assert result.record["n_videos"] == 2 and 0 <= result.metrics["AP"] <= 1


def test_the_mask_head_alone_learns_on_a_frozen_detector(tmp_path: Path) -> None:
    run = devis_run(multipliers=(("mask_head", 1.0), ("", 0.0)))
    run = replace(run, train=replace(run.train, steps=5))
    result = execute(run, RunStore(tmp_path), "cpu", Losses(), threads=1)
    seed_torch(run.seed, "initial weights")
    before = run.model.build().state_dict()
    after = load_file(RunStore(tmp_path).train_dir(result.train_key) / "weights.safetensors")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"mask_head"}


def test_tevit_learns_on_its_regions_and_is_evaluated_both_ways(tmp_path: Path) -> None:
    model = TeViTConfig(
        backbone=MsgShiftConfig(
            widths=(8, 16, 16, 32), num_heads=(1, 2, 2, 4), feed_forward_ratios=(2, 2, 2, 2), num_tokens=8,
            drop_path=0.0,
        ),
        num_classes=3, num_queries=4, hidden_dim=32, num_heads=2, num_stages=2, feed_forward_channels=32,
        dynamic_channels=8, finest_scale=14.0, proposal_init="grid",
        mask_head=RegionMaskHeadConfig(num_convolutions=1, dynamic_channels=8, norm="group"),
    )  # fmt: skip
    run = replace(devis_run(), model=model, criterion=tevit_losses())
    whole = replace(run, evaluation=replace(run.evaluation, clips=None))
    watcher = Losses()
    first = execute(run, RunStore(tmp_path), "cpu", watcher, threads=1)
    assert watcher.ratio < 0.85, watcher.ratio
    second = execute(whole, RunStore(tmp_path), "cpu", Losses(), threads=1)
    assert not second.trained and second.evaluated
    assert all(0 <= result.metrics["AP"] <= 1 for result in (first, second))
