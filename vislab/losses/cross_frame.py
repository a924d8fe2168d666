"""Cross-frame mask and dice losses (IFR Eq. 6-7): the queries of frame t1 predict the masks of frames t2.

Shape letters: T frames, n matched instances, h w mask size, H W image size.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vislab.losses.masks import dice_loss
from vislab.losses.point_sampling import (
    PointSamplingConfig,
    at_least_float,
    sample_points,
    seeded_generator,
    uncertain_points,
)


@runtime_checkable
class CrossFrameMaskPredictor(Protocol):
    """A mask predictor that can be asked for the masks of frames as the queries of other frames predict them."""

    @property
    def has_frame_queries(self) -> bool:
        """Whether every frame has queries of its own; if not, those of other frames are the same."""
        ...

    def from_frames(self, batch_index: int, query_index: Tensor, source_frames: Tensor) -> Tensor:
        """Logits (n, T, h, w): frame t as the queries of frame source_frames[t] predict it. source_frames: (T,)."""
        ...


def point_losses(
    logits: Tensor, masks: Tensor, config: PointSamplingConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy (mean over points) and dice loss of each mask of each frame, summed: two scalars.

    logits: (n, T, h, w). masks: (n, T, H, W) bool, covering the same part of the image.
    """
    flat = logits.flatten(0, 1)
    points = uncertain_points(flat, config, generator)
    predicted = sample_points(flat[:, None], points)[:, 0]
    wanted = sample_points(masks.flatten(0, 1)[:, None].to(flat), points)[:, 0]
    cross_entropy = functional.binary_cross_entropy_with_logits(predicted, wanted, reduction="none").mean(-1)
    return cross_entropy.sum(), dice_loss(predicted, wanted).sum()


def cross_frame_losses(
    pred_masks: CrossFrameMaskPredictor, batch_index: int, query_index: Tensor, masks: Tensor,
    config: PointSamplingConfig, seed: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Second terms of Eq. 6 and 7 without lambda_e: sums over the instances and all t1, t2 with t1 != t2, two scalars.

    The masks of one distance t1 - t2 (modulo T) are predicted at a time and computed again for the gradient: memory
    is that of one set of masks, whatever the length of the clip.

    Args:
        query_index: (n,) int64. masks: (n, T, H, W) bool. seed: points of distance d are drawn from its stream d.
    """
    num_frames = masks.shape[1]
    totals = [masks.new_zeros((), dtype=torch.float32) for _ in range(2)]

    def losses_at(distance: int) -> tuple[Tensor, Tensor]:
        source = (torch.arange(num_frames, device=masks.device) + distance) % num_frames
        logits = at_least_float(pred_masks.from_frames(batch_index, query_index, source))
        return point_losses(logits, masks, config, seeded_generator(seed, distance, masks.device))

    for distance in range(1, num_frames):
        losses = checkpoint(losses_at, distance, use_reentrant=False, preserve_rng_state=False)
        totals = [total + loss for total, loss in zip(totals, losses, strict=True)]
    return totals[0], totals[1]
