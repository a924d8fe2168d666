"""What stitching takes from a clip, and what it gives for each frame of the video.

Shape letters: T frames of the clip, M detections, K classes, U distinct masks, h w size of mask logits, H W image size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from vislab.rle import RLE, encode_many

MASKS_AT_ONCE = 8  # of the tracks, upsampled: bounds the memory where many tracks are alive
FINITE_LOGIT = 1e4  # stands for an infinite mask logit, which interpolation would turn into NaN


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
class ClipInstances:
    """The instances that a model sees in one clip, each with the scores of all classes.

    first: the clip's first frame in the video. class_scores: (M, K) float32 in [0, 1]. mask_logits: (M, T, h, w). A
    score or mask logit that is not a number counts as 0, and outside.
    """

    first: int
    class_scores: np.ndarray
    mask_logits: Tensor

    @property
    def end(self) -> int:
        """The frame of the video after the clip's last one."""
        return self.first + self.mask_logits.shape[1]


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

    def codes(self, logits: Tensor) -> list[RLE | None]:
        """n run-length codes at image size, None for empty masks. Few masks are held upsampled at a time."""
        found: list[RLE | None] = []
        for part in logits.split(MASKS_AT_ONCE):
            binary = self.binary(part).cpu().numpy()
            found += [code if mask.any() else None for code, mask in zip(encode_many(binary), binary, strict=True)]
        return found


@dataclass(frozen=True)
class TrackedInstance:
    """One track in one frame. segmentation is None where the mask is empty.

    label and score are the frame's own or, where clips are averaged, the best of class_scores: (K,) float32, means over
    the clips that had seen the track when the frame was finished; its last frame has the track's own.
    """

    track_id: int
    label: int
    score: float
    segmentation: RLE | None
    class_scores: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TrackedFrame:
    """A frame that no later clip will change. instances: by ascending track_id."""

    frame: int
    instances: tuple[TrackedInstance, ...]


def finite_logits(logits: Tensor) -> Tensor:
    """Mask logits that can be interpolated and averaged; what is not a number lies outside."""
    return logits.nan_to_num(nan=-FINITE_LOGIT, posinf=FINITE_LOGIT, neginf=-FINITE_LOGIT)
