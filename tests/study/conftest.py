"""A small paper whose configurations are real run configurations."""

from __future__ import annotations

import pytest

from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, RunConfig, TrainConfig
from vislab.losses.criterion import CriterionConfig
from vislab.models.presets import seqformer
from vislab.study.declare import Paper, Row, Table

CLEAN, FAINT = "synthetic-ytvis19", "synthetic-ytvis19+faint=0.1"


def base(scale: str) -> RunConfig:
    data = DatasetConfig(CLEAN, num_videos=2, height=32, width=64, length=3, num_categories=8)
    return RunConfig(
        model=seqformer("smoke"),
        criterion=CriterionConfig(),
        train=TrainConfig(steps=2, batch_size=1),
        data=data,
        sampling=SamplingConfig(clip_length=2),
        evaluation=EvalConfig(data),
        scale=scale,
    )


@pytest.fixture
def paper() -> Paper:
    """T1 and T2 share a row; T2's rows 0 and 1 differ at inference only; row 2 cannot run at tiny; row 3 is copied."""
    layers = "model.decoder.num_layers"
    first = Table(
        "T1", "layers", ("AP",), (Row(0, "three", {layers: 3}), Row(1, "two", {layers: 2}, baseline=0)), (FAINT, CLEAN)
    )
    rows = (
        Row(0, "three", {}),
        Row(1, "three, top 5", {"evaluation.top_k": 5}, baseline=0),
        Row(2, "huge", {}, unavailable={"tiny": "needs a larger machine"}),
        Row(3, "theirs", None, {"AP": 40.0}, own=False),
    )
    second = Table("T2", "inference", ("AP",), rows, (CLEAN,))
    return Paper("p", "A paper", base, (first, second), static=lambda config: {}, minutes={"tiny": 1.0})
