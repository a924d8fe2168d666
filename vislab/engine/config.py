"""What a run is: model, losses, data, schedule, seed and evaluation, and the two keys derived from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig
from vislab.config import added_later, digest, digest_of, inference_settings, outside_key
from vislab.data.dataset import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.errors import UserError, require
from vislab.losses.criterion import CriterionConfig
from vislab.losses.mask_criterion import MaskCriterionConfig
from vislab.losses.refinevis_criterion import RefineVISCriterionConfig
from vislab.losses.trajectory_criterion import TrajectoryCriterionConfig
from vislab.models.mask2former_vis import Mask2FormerVISConfig
from vislab.models.presets import ModelConfig
from vislab.models.refinevis import RefineVISConfig
from vislab.models.seqformer import SeqFormerConfig
from vislab.stitching.augmentation import TestTimeAugmentationConfig
from vislab.stitching.config import ClipInferenceConfig
from vislab.stitching.video_stream import StreamConfig

# of models with one query per instance, with one in every frame, of those that are matched by masks, and of frame-level
# models with association
AnyCriterionConfig = CriterionConfig | TrajectoryCriterionConfig | MaskCriterionConfig | RefineVISCriterionConfig


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation with AdamW. Defaults follow Deformable DETR (fundamentalvision/Deformable-DETR main.py)."""

    steps: int  # optimiser steps; 0 evaluates the initial weights
    batch_size: int  # clips per optimiser step, all micro batches together
    learning_rate: float = 1e-4  # of everything that no multiplier below covers
    backbone_multiplier: float = 0.1  # learning rate of parameters under model.backbone, relative
    slow_names: tuple[str, ...] = ("sampling_offsets", "reference_points")  # parameters whose name contains one of them
    slow_multiplier: float = 0.1  # learning rate of the slow_names, relative
    multipliers: tuple[tuple[str, float], ...] = field(default=(), metadata=added_later())
    # (text, learning rate relative to learning_rate) for parameters whose name contains the text; the first that fits
    # decides, before the ones above; 0 freezes: (("mask_head", 1.0), ("", 0.0)) trains the mask head and nothing else
    weight_decay: float = 1e-4  # decoupled, on all parameters
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW's running averages
    clip_norm: float = 0.1  # largest L2 norm of the whole gradient; 0 does not clip
    schedule: Literal["step", "cosine"] = "step"  # how the learning rate falls
    milestones: tuple[float, ...] = (3 / 6, 5 / 6)  # "step": fractions of `steps` at which it drops
    decay: float = 0.1  # "step": factor of each drop
    warmup_steps: int = 0  # linear rise from 0 to the learning rate
    amp: bool = False  # bfloat16 autocast; acts on CUDA only
    micro_batch: int | None = None  # clips per forward pass; gradients accumulate up to batch_size. None: all at once
    checkpoint_every: int = 500  # steps between checkpoints
    log_every: int = 20  # steps between lines of metrics.jsonl

    def __post_init__(self) -> None:
        require(self.steps >= 0, "train.steps", self.steps, "0 or more")
        require(self.batch_size >= 1, "train.batch_size", self.batch_size, "1 or more")
        for name in ("checkpoint_every", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "1 or more")
        for name in ("learning_rate", "backbone_multiplier", "slow_multiplier", "weight_decay", "clip_norm", "decay"):
            require(getattr(self, name) >= 0, f"train.{name}", getattr(self, name), "0 or more")
        for text, factor in self.multipliers:
            require(factor >= 0, f"train.multipliers of {text!r}", factor, "0 or more")
        require(0 <= self.warmup_steps <= self.steps, "train.warmup_steps", self.warmup_steps, f"0 to {self.steps}")
        ascending = all(0 < a <= 1 for a in self.milestones) and list(self.milestones) == sorted(self.milestones)
        require(ascending, "train.milestones", self.milestones, "ascending fractions of the steps in (0, 1]")
        fits = self.micro_batch is None or (self.micro_batch >= 1 and self.batch_size % self.micro_batch == 0)
        require(fits, "train.micro_batch", self.micro_batch, f"a divisor of train.batch_size {self.batch_size}")


@dataclass(frozen=True)
class EvalConfig:
    """Inference, of whole videos as SeqFormer does it (wjf5203/SeqFormer inference.py) or by clips as DeVIS does it.

    Which metrics are computed from the predictions is no part of it: see `evaluate`.
    """

    data: DatasetConfig  # the videos to score
    split: Literal["train", "valid"] = "valid"  # which part of them
    short_side: int | None = None  # frames are resized so that the shorter side has so many pixels; None: as they are
    max_side: int | None = None  # and the longer side at most so many
    top_k: int = 10  # instances kept of each video, over all pairs of query and category
    mask_threshold: float = 0.5  # probability above which a pixel belongs to the instance
    mask_alignment: Literal["target", "interpolate"] = "target"
    # where a mask logit lies: "target": at stride*i + stride//2, where the training targets are read;
    # "interpolate": at the centre of its cell, as the released SeqFormer code resizes (half a pixel off)
    score_threshold: float = 0.0  # instances must score more
    clips: ClipInferenceConfig | None = field(default=None, metadata=added_later())
    # overlapping clips, stitched together, each with top_k candidates; None: the whole video is one clip
    augmentation: TestTimeAugmentationConfig | None = field(default=None, metadata=added_later())
    # whole videos at several sizes in place of short_side, results matched and averaged; None: short_side alone
    stream: StreamConfig | None = field(default=None, metadata=added_later())
    # frame by frame, for models that predict single frames and need it; None: a model of clips

    def __post_init__(self) -> None:
        if self.clips is not None and self.augmentation is not None:
            raise UserError("evaluation.augmentation is for whole videos, expected None where evaluation.clips is set")
        for name in ("clips", "augmentation"):
            if self.stream is not None and getattr(self, name) is not None:
                raise UserError(
                    f"evaluation.{name} is for models of clips, expected None where evaluation.stream is set"
                )
        require(self.top_k >= 1, "evaluation.top_k", self.top_k, "1 or more")
        for name in ("short_side", "max_side"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"evaluation.{name}", value, "None or 1 pixel and more")
        for name in ("mask_threshold", "score_threshold"):
            value = getattr(self, name)
            require(0 <= value < 1, f"evaluation.{name}", value, "a probability in [0, 1)")


@dataclass(frozen=True)
class InitialWeights:
    """Weights to start from (safetensors), known by their content: a file that moves keeps its runs."""

    path: str = field(metadata=outside_key())  # where the file lies
    sha256: str  # 64 hexadecimal digits of the file's SHA-256
    without: tuple[str, ...] = field(default=(), metadata=added_later())
    # texts; entries whose names contain one of them are left out, so that these parts of the model start fresh

    @classmethod
    def of(cls, path: str | Path) -> InitialWeights:
        """Reads the file to hash it. Raises UserError if it does not exist."""
        return cls(str(path), file_sha256(path))


@dataclass(frozen=True)
class RunConfig:
    """One training run and one evaluation of it."""

    model: ModelConfig
    criterion: AnyCriterionConfig
    train: TrainConfig
    data: DatasetConfig  # the videos to train on (their "train" split)
    sampling: SamplingConfig  # how clips are drawn from them
    evaluation: EvalConfig
    init: InitialWeights | None = None  # None: fresh weights
    seed: int = 0  # of initial weights, clips and dropout
    scale: str = "tiny"  # smoke, tiny, small or paper; stands on every table

    def __post_init__(self) -> None:
        self._check_clip_lengths()
        self._check_cross_frames()
        self._check_stream()
        wanted = _criterion_of(self.model)
        expected = f"{wanted.__name__}, the one for model {type(self.model).__name__}"
        require(isinstance(self.criterion, wanted), "criterion", type(self.criterion).__name__, expected)

    def _check_cross_frames(self) -> None:
        """Masks of other frames can be predicted by queries of a frame only."""
        if not isinstance(self.criterion, MaskCriterionConfig) or not isinstance(self.model, Mask2FormerVISConfig):
            return
        recurrent = isinstance(self.model.decoder.layer, InterFrameRecurrentConfig)
        found, expected = self.criterion.cross_frame_weight, "0 for a model.decoder.layer without frame-level queries"
        require(recurrent or found == 0, "criterion.cross_frame_weight", found, expected)

    def _check_stream(self) -> None:
        """Models that predict single frames are evaluated frame by frame, and no others."""
        stream, model = self.evaluation.stream, self.model
        if not isinstance(model, RefineVISConfig):
            expected = f"None: {type(model).__name__} takes clips"
            return require(stream is None, "evaluation.stream", type(stream).__name__, expected)
        if stream is None:
            raise UserError("evaluation.stream is None, expected a StreamConfig: RefineVIS predicts single frames")
        found, expected = stream.window, "None or 0 where model.tar is None, which leaves nothing to refine with"
        require(model.tar is not None or not found, "evaluation.stream.window", found, expected)

    def _check_clip_lengths(self) -> None:
        """A model that is made for clips of one length must be trained and evaluated with it."""
        length = self.model.clip_length
        if length is None:
            return
        expected = f"{length}, as model.clip_length is"
        require(self.sampling.clip_length == length, "sampling.clip_length", self.sampling.clip_length, expected)
        clips = self.evaluation.clips
        if clips is not None:
            fits = clips.clip_length == length
            require(fits, "evaluation.clips.clip_length", clips.clip_length, expected)

    @property
    def train_key(self) -> str:
        """Identifies the trained weights: everything but the evaluation and what the model does at inference only."""
        return digest(self, without=("evaluation",))

    @property
    def eval_key(self) -> str:
        """Identifies one evaluation of these weights."""
        settings = inference_settings(self.model)
        return digest_of([self.train_key, digest(self.evaluation), *([settings] if settings else [])])


def _criterion_of(model: ModelConfig) -> type[AnyCriterionConfig]:
    if isinstance(model, SeqFormerConfig):
        return CriterionConfig
    if isinstance(model, RefineVISConfig):
        return RefineVISCriterionConfig
    return MaskCriterionConfig if isinstance(model, Mask2FormerVISConfig) else TrajectoryCriterionConfig


def file_sha256(path: str | Path) -> str:
    """64 hexadecimal digits. Raises UserError if the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
