"""The smallest real run: a one-layer SeqFormer on two short synthetic videos of 64x64."""

from __future__ import annotations

from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, RunConfig, TrainConfig
from vislab.losses.criterion import CriterionConfig
from vislab.models.backbones import ResNetConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.query_decoder import DecoderConfig
from vislab.models.seqformer import SeqFormerConfig

BACKBONE = ResNetConfig(
    depths=(1, 1, 1, 1), widths=(16, 16, 32, 32), stem_width=16, layer_type="basic", norm="group", frozen_stages=0
)
MODEL = SeqFormerConfig(
    backbone=BACKBONE, num_classes=3, num_queries=4, hidden_dim=32, num_heads=2, num_levels=3, dropout=0.1,
    encoder=EncoderConfig(num_layers=1, feed_forward_channels=32),
    decoder=DecoderConfig(num_layers=1, feed_forward_channels=32),
)  # fmt: skip


def small_run(steps: int = 3) -> RunConfig:
    data = DatasetConfig("synthetic-ytvis19", num_videos=2, height=64, width=64, length=3, num_categories=3)
    return RunConfig(
        model=MODEL,
        criterion=CriterionConfig(),
        train=TrainConfig(steps=steps, batch_size=1, learning_rate=1e-3, checkpoint_every=2, log_every=2),
        data=data,
        sampling=SamplingConfig(clip_length=2),
        evaluation=EvalConfig(data),
        scale="smoke",
    )
