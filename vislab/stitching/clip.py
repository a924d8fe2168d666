"""What stitching takes from a clip, and what it gives for each frame of the video.

Shape letters: T frames of the clip, M detections, U distinct masks, h w size of mask logits, H W image size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vislab.rle import RLE


@dataclass(frozen=True)
class ClipDetections:
    """The instances that a model sees in one clip. Several may share a mask: a query that counts for two categories.

    first: the clip's first frame in the video. labels: (M,) int64. scores: (M, T) float32 in [0, 1], of that label in
    each frame. boxes: (M, T, 4) float32 cxcywh in [0, 1]. mask_index: (M,) int64, in 0..U-1. mask_logits: (U, T, h, w).
    A score, box or mask logit that is not a number counts as 0, no box, and outside.
    """

    first: int
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    mask_index: np.ndarray
    mask_logits: Tensor

    @property
    def length(self) -> int:
        """T."""
        return self.scores.shape[1]

    @property
    def frames(self) -> range:
        """The clip's frames in the video."""
        return range(self.first, self.first + self.length)


@dataclass(frozen=True)
class Observation:
    """One instance in one frame. box: (4,) cxcywh. mask_logits: (h, w), one tensor for all that share the mask."""

    label: int
    score: float
    box: np.ndarray
    mask_logits: Tensor


@dataclass(frozen=True)
class ImageMasks:
    """From mask logits to masks of the image. resize: (n, h, w) logits to (n, H, W), a new tensor.

    threshold: probability above which a pixel belongs to the instance, in [0, 1).
    """

    resize: Callable[[Tensor], Tensor]
    threshold: float = 0.5

    def probabilities(self, logits: Tensor) -> Tensor:
        """(n, H, W) float32 in [0, 1]."""
        return self.resize(logits).float().sigmoid().nan_to_num(nan=0.0)

    def binary(self, logits: Tensor) -> Tensor:
        """(n, H, W) bool."""
        least = math.log(self.threshold / (1 - self.threshold)) if self.threshold > 0 else -math.inf
        return self.resize(logits) > least


@dataclass(frozen=True)
class TrackedInstance:
    """One track in one frame. label and score are the frame's own; segmentation is None where the mask is empty."""

    track_id: int
    label: int
    score: float
    segmentation: RLE | None


@dataclass(frozen=True)
class TrackedFrame:
    """A frame that no later clip will change. instances: by ascending track_id."""

    frame: int
    instances: tuple[TrackedInstance, ...]
