"""The four scales, shared by all papers: what a configuration is trained on, for how long, and how it is evaluated.

smoke: seconds a row, proves that the wiring trains. tiny: minutes a row on two CPU cores, real learning on the
synthetic benchmark. small: minutes a row on one GPU. paper: the paper's own setting on the real data.
"""

from __future__ import annotations

from pathlib import Path

from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import AnyCriterionConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from vislab.stitching.video_stream import StreamConfig

YTVIS19_FRAMES = 61_845  # annotated frames of YouTube-VIS 2019's training set; one clip around each is an epoch
COCO_IMAGES = 118_287  # of train2017
WEIGHTS = Path(__file__).parent / "weights"
CLEAN = "synthetic-ytvis19"
STILLS = "synthetic-coco"

_TINY_VIDEO = {"height": 96, "width": 160, "num_categories": 8}


def at_scale(
    scale: str, model: ModelConfig, criterion: AnyCriterionConfig, stream: StreamConfig | None = None
) -> RunConfig:
    """A model of this scale with the scale's data, schedule and evaluation; fresh weights, seed 0.

    Clips are as long as the model takes them, or as the scale has them if it takes any length. stream: of models that
    are evaluated frame by frame.
    """
    return {"smoke": _smoke, "tiny": _tiny, "small": _small, "paper": _paper}[scale](model, criterion, stream)


def _smoke(model: ModelConfig, criterion: AnyCriterionConfig, stream: StreamConfig | None) -> RunConfig:
    data = DatasetConfig(CLEAN, num_videos=4, length=4, **_TINY_VIDEO)
    return RunConfig(
        model=model,
        criterion=criterion,
        train=TrainConfig(steps=4, batch_size=1, learning_rate=2e-4, clip_norm=1.0, log_every=1),
        data=data,
        sampling=SamplingConfig(clip_length=model.clip_length or 3, short_sides=(96,), max_side=160),
        evaluation=EvalConfig(data, short_side=96, max_side=160, stream=stream),
        scale="smoke",
    )


def _tiny(model: ModelConfig, criterion: AnyCriterionConfig, stream: StreamConfig | None) -> RunConfig:
    return RunConfig(
        model=model,
        criterion=criterion,
        train=TrainConfig(
            steps=160, batch_size=2, learning_rate=4e-4, backbone_multiplier=1.0, schedule="cosine", warmup_steps=20,
            checkpoint_every=100,
        ),
        data=DatasetConfig(CLEAN, num_videos=2000, length=12, **_TINY_VIDEO),
        sampling=SamplingConfig(clip_length=model.clip_length or 5, short_sides=(96,), max_side=160),
        evaluation=EvalConfig(
            DatasetConfig(CLEAN, num_videos=200, length=12, **_TINY_VIDEO), short_side=96, max_side=160, stream=stream
        ),
        scale="tiny",
    )  # fmt: skip


def _small(model: ModelConfig, criterion: AnyCriterionConfig, stream: StreamConfig | None) -> RunConfig:
    return RunConfig(
        model=model,
        criterion=criterion,
        train=TrainConfig(
            steps=3000, batch_size=8, backbone_multiplier=1.0, clip_norm=1.0, schedule="cosine", warmup_steps=100,
            amp=True,
        ),
        data=DatasetConfig(CLEAN, height=192, width=320, length=20),
        sampling=SamplingConfig(clip_length=model.clip_length or 5, clip_stride=2, short_sides=(192,), max_side=320),
        evaluation=EvalConfig(
            DatasetConfig(CLEAN, num_videos=300, height=192, width=320, length=20), short_side=192, max_side=320,
            stream=stream,
        ),
        scale="small",
    )  # fmt: skip


def _paper(model: ModelConfig, criterion: AnyCriterionConfig, stream: StreamConfig | None) -> RunConfig:
    """TAFormer 4.1: 16 clips of 5 frames, 6 epochs with drops after 3 and 5, inference at 360 p.

    What an epoch is, the paper does not say; as in SeqFormer's code it is one clip around every annotated frame (61,845
    in YouTube-VIS 2019).
    """
    return RunConfig(
        model=model,
        criterion=criterion,
        train=TrainConfig(steps=6 * YTVIS19_FRAMES // 16, batch_size=16, micro_batch=4, amp=True),
        data=DatasetConfig("YouTube-VIS"),  # replaced by --data
        sampling=SamplingConfig(
            clip_length=model.clip_length or 5, clip_stride=2,
            short_sides=(288, 320, 352, 392, 416, 448, 480, 512), max_side=768,
        ),
        evaluation=EvalConfig(DatasetConfig("YouTube-VIS"), short_side=360, max_side=640, stream=stream),
        scale="paper",
    )  # fmt: skip
