"""Losses of frame-level predictions and of refined tracklets (RefineVIS Eq. 2 and 5), unweighted sums.

Shape letters: F frames, T frames of a clip, Q queries, K classes, N instances, C channels, n masks or tracklets,
h w mask size, H W input size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vislab.losses.boxes import box_losses
from vislab.losses.classification import classification_loss, sigmoid_focal_loss
from vislab.losses.cross_frame import point_losses
from vislab.losses.frame_predictions import FrameHeads, FramePredictions, gather_tracklets, tracklet_references
from vislab.losses.masks import dice_loss, sampled_masks
from vislab.losses.point_sampling import PointSamplingConfig, at_least_float, seeded_generator
from vislab.shared_batch import new_seeds, normaliser
from vislab.structures import Targets

BACKGROUND = -1e4  # logit of places without a query: no loss, no gradient

Matches = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class MaskLossConfig:
    """kind: "points": cross-entropy and dice at sampled points (MaskDINO, and what RefineVIS 3.2 names); "pixels":
    focal loss, averaged, and dice at all pixels (IDOL). points: of the former."""

    kind: Literal["points", "pixels"] = "points"
    points: PointSamplingConfig = PointSamplingConfig()

    def seeds(self, count: int) -> list[int]:
        """Of the points of so many calls of `terms`."""
        return new_seeds(count) if self.kind == "points" else [0] * count

    def terms(self, logits: Tensor, masks: Tensor, mask_stride: int, seed: int) -> tuple[Tensor, Tensor]:
        """Sums over n masks of the mask and the dice loss. logits: (n, h, w); masks: (n, H, W) bool. seed: of the
        points."""
        logits = at_least_float(logits)
        if not len(logits):
            return logits.sum() * 0.0, logits.sum() * 0.0
        if self.kind == "points":
            generator = seeded_generator(seed, 0, logits.device)
            return point_losses(logits[:, None], masks[:, None], self.points, generator)
        rows, wanted = logits.flatten(1), sampled_masks(masks, mask_stride).flatten(1).to(logits)
        return sigmoid_focal_loss(rows, wanted).mean(-1).sum(), dice_loss(rows, wanted).sum()


def frame_targets(targets: Sequence[Targets]) -> list[Targets]:
    """Every frame of every clip as a clip of one frame, with all instances of its clip, present or not."""
    frames = []
    for target in targets:
        for t in range(target.present.shape[1]):
            one = slice(t, t + 1)
            parts = {"boxes": target.boxes[:, one], "masks": target.masks[:, one], "present": target.present[:, one]}
            frames.append(replace(target, **parts))
    return frames


def frame_level_losses(
    layer: FramePredictions, frames: Sequence[int], truth: Sequence[Targets], matches: Sequence[Matches],
    valid: Tensor | None, masks: MaskLossConfig, mask_stride: int,
) -> dict[str, Tensor]:  # fmt: skip
    """Eq. 2 of one decoder layer: "class", "box", "giou", "mask", "dice", divided by the matched pairs.

    frames: which count; truth, matches: of these. valid: (F, Q) bool, False where there is no query, or None.
    """
    rows = list(frames)
    logits = at_least_float(layer.logits[rows])
    if valid is not None:
        logits = logits.masked_fill(~valid[rows][..., None], BACKGROUND)
    pairs = normaliser(sum(len(queries) for queries, _ in matches))
    boxes, wanted = at_least_float(layer.boxes[rows])[:, :, None], list(truth)
    l1, giou = box_losses(boxes, wanted, list(matches), pairs)
    losses = {"class": classification_loss(logits, wanted, list(matches), pairs), "box": l1, "giou": giou}
    sums = [logits.sum() * 0.0] * 2
    seeds = iter(masks.seeds(sum(len(queries) > 0 for queries, _ in matches)))
    for frame, target, (queries, instances) in zip(rows, truth, matches, strict=True):
        if len(queries):
            found = masks.terms(layer.masks(frame, queries), target.masks[instances, 0], mask_stride, next(seeds))
            sums = [total + term for total, term in zip(sums, found, strict=True)]
    return losses | {"mask": sums[0] / pairs, "dice": sums[1] / pairs}


@dataclass(frozen=True)
class Tracklets:
    """Tracklets of one clip, formed by the ground truth. query_index: (n, T) int64, -1 where one is missing. instance:
    (n,) int64. positive: (n,) bool; a negative one, of denoising queries, has to predict nothing."""

    query_index: Tensor
    instance: Tensor
    positive: Tensor


def refined_losses(
    values: FramePredictions, first: int, numbers: Tensor, tracklets: Tracklets, target: Targets,
    refine: Callable[[Tensor, Tensor], Tensor], masks: MaskLossConfig, mask_stride: int, seed: int = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """Eq. 5 of the tracklets of one clip: sums over tracklets and frames of "class", "mask" and "dice".

    A positive tracklet learns its class and mask where its instance is present, whether it has a query there or not;
    elsewhere, and in negative ones, no class and an empty mask. first: of the clip's frames in `values`; numbers: (T,),
    of the frames. seed: of the points, see `MaskLossConfig.seeds`.
    """
    part = slice(first, first + len(numbers))
    embeddings = gather_tracklets(values.embeddings[part], tracklets.query_index)
    places = tracklet_references(values.references[part], tracklets.query_index)
    refined = refine(embeddings, numbers)
    wanted = target.present[tracklets.instance] & tracklets.positive[:, None]
    logits = at_least_float(values.heads.classify(refined))
    one_hot = torch.zeros_like(logits)
    one_hot[torch.arange(len(logits)), :, target.labels[tracklets.instance]] = wanted.to(one_hot)
    losses = {"class": sigmoid_focal_loss(logits, one_hot).sum()}
    found = _refined_masks(values.heads, first, refined, places)
    masks_wanted = target.masks[tracklets.instance] & wanted[..., None, None]
    mask, dice = masks.terms(found.flatten(0, 1), masks_wanted.flatten(0, 1), mask_stride, seed)
    return losses | {"mask": mask, "dice": dice}


def _refined_masks(heads: FrameHeads, first: int, refined: Tensor, places: Tensor) -> Tensor:
    """refined: (n, T, C); places: (n, T, 2). Returns (n, T, h, w)."""
    frames = range(refined.shape[1])
    return torch.stack([heads.masks(first + t, refined[:, t], places[:, t]) for t in frames], dim=1)
