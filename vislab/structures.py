"""Containers that travel between data, models, losses and engine.

Shape letters: B batch, T frames, Q queries, K classes, C channels, N instances, H W image size, h w mask size.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass
class Targets:
    """Ground truth of one clip.

    labels: (N,) int64 in 0..K-1. boxes: (N, T, 4) float32, cxcywh in [0, 1] of the unpadded image.
    masks: (N, T, H, W) bool at the padded input size. present: (N, T) bool. track_ids: (N,) int64.
    """

    labels: Tensor
    boxes: Tensor
    masks: Tensor
    present: Tensor
    track_ids: Tensor

    def to(self, device: torch.device | str) -> Targets:
        return Targets(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass
class Batch:
    """Clips of equal length, padded to one size.

    images: (B, T, 3, H, W) float32, normalised. padding_mask: (B, H, W) bool, True where padded.
    image_sizes: (B, 2) int64, (height, width) without padding. targets: one per clip, empty at inference.
    video_names: one per clip, for messages; empty if unknown. frame_numbers: (B, T) int64, place of each frame in its
    video, or None; see `ClipSample.frame_numbers`.
    """

    images: Tensor
    padding_mask: Tensor
    image_sizes: Tensor
    targets: list[Targets] = field(default_factory=list)
    video_names: list[str] = field(default_factory=list)
    frame_numbers: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.images.to(device),
            self.padding_mask.to(device),
            self.image_sizes.to(device),
            [target.to(device) for target in self.targets],
            self.video_names,
            None if self.frame_numbers is None else self.frame_numbers.to(device),
        )


class MaskPredictor(Protocol):
    """Mask logits of chosen queries of one clip; computing only these keeps memory small."""

    def __call__(self, batch_index: int, query_index: Tensor) -> Tensor:
        """query_index: (n,) int64. Returns logits (n, T, h, w) at the model's mask stride."""
        ...


@runtime_checkable
class RegionMaskPredictor(MaskPredictor, Protocol):
    """Masks made inside of boxes, one for each class (TeViT): who knows the class says which of them is meant."""

    def __call__(self, batch_index: int, query_index: Tensor, labels: Tensor | None = None) -> Tensor:
        """labels: (n,) int64, the class of each query, which may come with several; None: the best of each."""
        ...

    def on_regions(
        self, batch_index: Tensor, query_index: Tensor, frame_index: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Masks of single frames of any clips, on their boxes; all arguments (n,) int64.

        Returns logits (n, s, s), and the boxes that they span, (n, 4) xyxy in pixels of the input, without gradient.
        """
        ...


@dataclass
class ModelOutput:
    """What every clip-level model returns.

    pred_logits: before the sigmoid, (B, Q, K), or (B, Q, T, K) where every frame has logits of its own.
    pred_boxes: (B, Q, T, 4), cxcywh in [0, 1]; NaN where the model predicts none. pred_masks: None if this layer,
    an auxiliary one, predicts no masks. frame_queries: (B, T, Q, C) or None. aux_outputs: the same of earlier decoder
    layers, first layer first.
    """

    pred_logits: Tensor
    pred_boxes: Tensor
    pred_masks: MaskPredictor | None
    frame_queries: Tensor | None = None
    aux_outputs: list[ModelOutput] = field(default_factory=list)

    def class_scores(self) -> Tensor:
        """(B, Q, K) float32 in [0, 1]: sigmoid; of frame logits the mean over the frames (DeVIS
        src/models/devis_segmentation.py:129-146, TeViT mmdet/models/roi_heads/tevit_roi_head.py:257-275)."""
        scores = self.pred_logits.float().sigmoid()
        return scores.mean(2) if scores.dim() == 4 else scores
