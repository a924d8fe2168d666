"""RefineVIS: a frame-level model, contrastive association, and temporal attention refinement (TAR).

Abrantes et al., "RefineVIS: Video Instance Segmentation with Temporal Attention Refinement". There is no public code.
IDOL is RefineVIS without TAR on Deformable DETR with dynamic-convolution masks.

Shape letters: B batch, T frames, F = B * T frames, Q queries, C channels, H W image size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from vislab.blocks.association_head import AssociationHeadConfig
from vislab.blocks.temporal_attention_refinement import TARConfig
from vislab.errors import UserError
from vislab.losses.denoising import DenoisingConfig, DenoisingQueries, make_denoising_queries
from vislab.losses.frame_predictions import ClipPredictions, FramePredictions
from vislab.models.dynamic_mask_detr import DynamicMaskDETRConfig
from vislab.models.frame_model import FrameModel
from vislab.models.mask2former_frames import Mask2FormerFramesConfig
from vislab.models.maskdino import MaskDINOConfig
from vislab.shared_batch import draw_rows
from vislab.structures import Targets

FrameModelConfig = MaskDINOConfig | Mask2FormerFramesConfig | DynamicMaskDETRConfig


@dataclass(frozen=True)
class RefineVISConfig:
    """RefineVIS.

    tar: None leaves refinement out. denoising: queries that training adds; only MaskDINO's decoder takes them.
    first_frames: in training, frame numbers are counted on from a random one below this (1: from 0), so that TAR meets
    the numbers of long videos in short ones too; 300 covers the longest of OVIS.
    """

    frame_model: FrameModelConfig = MaskDINOConfig()
    association_head: AssociationHeadConfig = AssociationHeadConfig()
    tar: TARConfig | None = TARConfig()
    denoising: DenoisingConfig | None = DenoisingConfig()
    first_frames: int = 300
    clip_length: None = None  # clips of any length

    @property
    def num_classes(self) -> int:
        return self.frame_model.num_classes

    def with_num_classes(self, num_classes: int) -> RefineVISConfig:
        """The same model for a data set of so many classes."""
        model = self.frame_model
        if isinstance(model, Mask2FormerFramesConfig):
            return replace(self, frame_model=replace(model, model=replace(model.model, num_classes=num_classes)))
        return replace(self, frame_model=replace(model, num_classes=num_classes))

    def build(self) -> RefineVIS:
        if self.first_frames < 1:
            raise UserError(f"first_frames is {self.first_frames}, expected at least 1")
        return RefineVIS(self)


class RefineVIS(nn.Module):
    """Association head and TAR on a frame-level model, whose class and mask heads TAR shares (section 4.1)."""

    reads_targets = True

    def __init__(self, config: RefineVISConfig) -> None:
        super().__init__()
        self.config, self.clip_length = config, None
        self.frame_model = config.frame_model.build()
        if config.denoising is not None and not self.frame_model.takes_denoising:
            found = type(config.frame_model).__name__
            raise UserError(f"denoising is set, expected None: the decoder of {found} takes no denoising queries")
        channels = self.frame_model.channels
        self.mask_stride = self.frame_model.mask_stride
        self.association_head = config.association_head.build(channels)
        self.tar = None if config.tar is None else config.tar.build(channels)

    def forward(
        self, images: Tensor, padding_mask: Tensor, targets: list[Targets] | None = None,
        frame_numbers: Tensor | None = None,
    ) -> ClipPredictions:  # fmt: skip
        """images: (B, T, 3, H, W), normalised, H and W multiples of 32; padding_mask: (B, H, W) bool, True = padded.

        targets: of the clips, for denoising queries; read in training only. frame_numbers: (B, T) int64, absolute, from
        0; None counts 0, 1, ... In training all those of a clip are shifted, see `first_frames`.
        """
        batch, num_frames = images.shape[:2]
        padding = padding_mask.repeat_interleave(num_frames, dim=0)
        frames = self.frames(images.flatten(0, 1), padding, self._denoising(targets))
        if frame_numbers is None:
            frame_numbers = torch.arange(num_frames, device=images.device).repeat(batch, 1)
        if self.training:
            most = self.config.first_frames
            shift = draw_rows(lambda rows, generator: torch.randint(most, (rows, 1), generator=generator), batch)
            frame_numbers = frame_numbers + shift.to(frame_numbers)
        return ClipPredictions(frames, num_frames, frame_numbers, self.tar)

    def frames(
        self, images: Tensor, padding_mask: Tensor, denoising: DenoisingQueries | None = None
    ) -> FramePredictions:
        """Frame-level predictions with association embeddings: what `VideoStream` takes.

        images: (F, 3, H, W); padding_mask: (F, H, W).
        """
        model = cast(FrameModel, self.frame_model)
        predictions = model(images, padding_mask, denoising)
        for part in (predictions, predictions.denoising):
            if part is not None:
                part.association = self.association_head(part.embeddings)
        return predictions

    def _denoising(self, targets: list[Targets] | None) -> DenoisingQueries | None:
        config = self.config.denoising
        if not self.training or config is None or targets is None:
            return None
        return make_denoising_queries(targets, self.config.frame_model.num_classes, config)

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of an image model, or of a model of clips, for the frame-level model, as far as it has a use for
        them; those of a RefineVIS pass unchanged."""
        if any(name.startswith("frame_model.") for name in state):
            return state
        adapted = cast(FrameModel, self.frame_model).adapt_weights(state)
        return {f"frame_model.{name}": value for name, value in adapted.items()}

    def released_extras(self) -> dict[str, int]:
        """Numbers that the released state dict of the frame-level model holds on top of it."""
        return getattr(self.frame_model, "released_extras", dict)()


@dataclass(frozen=True)
class RefinementCost:
    """Multiply-adds of TAR for one tracklet and one window of W frames, by part; norms and softmax do not count.

    The paper prints 2.8 MFLOPs for W = 10 and not what it counts. The nearest plain reading is attention alone,
    projections and products: 2,672,640 multiply-adds at C = 256, whatever the number of heads, which is 5 % less. With
    the feed-forward network the whole window costs 7.9 M (width 1024); the current frame alone, as online, 2.0 M, or
    2.5 M (2048).
    """

    attention: int
    feed_forward: int

    @property
    def total(self) -> int:
        return self.attention + self.feed_forward


def refinement_cost(config: TARConfig, channels: int, online: bool = False) -> RefinementCost:
    """All W frames of a window, or, online, the current one with W - 1 remembered ones."""
    window = config.window
    queries = min(1, window) if online else window
    projections = 2 * channels * channels * (queries + window)  # queries and outputs; keys and values
    products = 2 * queries * window * channels
    return RefinementCost(projections + products, 2 * queries * channels * config.feed_forward_channels)
