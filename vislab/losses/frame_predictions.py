"""What frame-level models predict: between the models, their losses and the association.

Shape letters: F frames of all clips, one clip after the other, Q queries, K classes, C channels, E channels of the
association embedding, n chosen queries, h w mask size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from vislab.losses.denoising import DenoisingQueries


class FrameHeads(Protocol):
    """Class and mask heads, bound to the features of some frames. Frame-level and refined embeddings share them."""

    def classify(self, embeddings: Tensor) -> Tensor:
        """(..., C) to logits before the sigmoid, (..., K)."""
        ...

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        """Mask logits (n, h, w) in one frame. embeddings: (n, C); references: (n, 2), (x, y) in [0, 1] of the unpadded
        image, where the object is thought to be; heads without relative coordinates do not read them."""
        ...


@dataclass
class FramePredictions:
    """Every query in every frame on its own.

    logits: (F, Q, K), before the sigmoid. boxes: (F, Q, 4), cxcywh in [0, 1] of the unpadded image. embeddings:
    (F, Q, C), from which the heads predict. references: (F, Q, 2), see FrameHeads. association: (F, Q, E), None in
    auxiliary outputs. aux_outputs: the same of earlier decoder layers, first layer first. denoising: the same of
    denoising queries, which training adds, and denoising_queries what they are.
    """

    logits: Tensor
    boxes: Tensor
    embeddings: Tensor
    references: Tensor
    heads: FrameHeads
    association: Tensor | None = None
    aux_outputs: list[FramePredictions] = field(default_factory=list)
    denoising: FramePredictions | None = None
    denoising_queries: DenoisingQueries | None = None

    def masks(self, frame: int, query_index: Tensor) -> Tensor:
        """query_index: (n,) int64. Returns logits (n, h, w)."""
        embeddings, references = self.embeddings[frame, query_index], self.references[frame, query_index]
        return self.heads.masks(frame, embeddings, references)


@dataclass
class ClipPredictions:
    """What RefineVIS gives for a batch of clips.

    frames: of all clips, F = B * T. num_frames: T. frame_numbers: (B, T) int64, absolute. refine: embeddings (n, T, C)
    of tracklets, zero where they are missing, and frame numbers (T,), to refined embeddings; None without TAR.
    """

    frames: FramePredictions
    num_frames: int
    frame_numbers: Tensor
    refine: Callable[[Tensor, Tensor], Tensor] | None = None


def gather_tracklets(values: Tensor, query_index: Tensor) -> Tensor:
    """values: (T, Q, X) of the frames of one clip. query_index: (n, T) int64, -1 where a tracklet is missing. Returns
    (n, T, X), zero there."""
    frames = torch.arange(len(values), device=values.device)
    chosen = values[frames, query_index.clamp(min=0)]
    return torch.where((query_index >= 0)[..., None], chosen, torch.zeros_like(chosen))


def tracklet_references(references: Tensor, query_index: Tensor) -> Tensor:
    """Where tracklets are in every frame: where their query is, and where they are missing, where they were in the
    nearest frame in which they are not, the earlier of two.

    references: (T, Q, 2). query_index: (n, T), -1 where missing, not everywhere. Returns (n, T, 2).
    """
    frames = torch.arange(len(references), device=references.device)
    distance = (frames[:, None] - frames).abs() * 2 + (frames[:, None] < frames)
    distance = distance.expand(len(query_index), -1, -1).masked_fill((query_index < 0)[:, None], 4 * len(frames))
    nearest = distance.argmin(-1)
    return references[nearest, query_index.gather(1, nearest).clamp(min=0)]
