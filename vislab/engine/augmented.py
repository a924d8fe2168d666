"""Test-time augmentation (IFR section 3.2): a whole video at several sizes, results matched and averaged.

Shape letters: R results, Q queries, K classes, T frames, H W image size, h w coarse size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vislab.data.collate import video_batch
from vislab.engine.clip_inference import Video
from vislab.engine.config import EvalConfig
from vislab.engine.mask_encoding import MaskSampling, encode_upsampled, masks_at_once, resize_masks
from vislab.engine.pairs import best_pairs, category_scores, pair_masks
from vislab.engine.seeding import derived_seed
from vislab.rle import RLE
from vislab.stitching import VideoInstance
from vislab.stitching.augmentation import (
    QueryPredictions,
    average_masks,
    average_scores,
    match_to_pivot,
    random_pivot,
)
from vislab.stitching.tracks import shortest
from vislab.structures import ModelOutput

COARSE_STRIDE = 8  # pixels of the smallest input between the points at which results are matched
QUERIES_AT_ONCE = 16  # whose masks are held before they are coarse


@dataclass(frozen=True)
class Result:
    """The model's output at one size, and where its masks lie."""

    output: ModelOutput
    sampling: MaskSampling

    def pair(self, query: Tensor, label: Tensor) -> Tensor:
        """Mask logits of one pair of query and class, (T, h, w). query, label: () int64."""
        assert self.output.pred_masks is not None
        return pair_masks(self.output.pred_masks, query[None], label[None])[0][0]


def predict_augmented(
    model: nn.Module, video: Video, config: EvalConfig, num_categories: int, device: torch.device
) -> list[VideoInstance]:
    """The best pairs of query and class by their scores' mean over the sizes, with the mean of their probabilities.

    A random pivot, the same one for a video in every run, says which query of a result is which. Masks are averaged at
    image size, one instance and a few frames at a time.
    """
    assert config.augmentation is not None
    frames = video.read(range(video.length))
    results = []
    for short_side in config.augmentation.short_sides:
        batch = video_batch(frames, short_side, scaled_max_side(config, short_side)).to(device)
        output = replace(model(batch.images, batch.padding_mask), aux_outputs=[])
        results.append(Result(output, MaskSampling.of(model, batch, config)))
    seed = derived_seed(config.augmentation.seed, "pivot", video.index)
    pivot = random_pivot(len(results), torch.Generator().manual_seed(seed))
    scores = [category_scores(result.output, num_categories) for result in results]
    matched = match_to_pivot(coarse_predictions(results, scores), pivot, config.augmentation.cost)
    best, queries, labels = best_pairs(average_scores(scores, matched), config.top_k)
    instances = []
    for score, query, label in zip(best.cpu().numpy(), queries, labels, strict=True):
        if score > config.score_threshold:
            masks = [result.pair(index, label) for result, index in zip(results, matched[:, query], strict=True)]
            codes = encode_average(masks, results, frames.shape[1:3], config.mask_threshold)
            instances.append(VideoInstance(int(label), shortest(score), codes))
    return [instance for instance in instances if any(mask is not None for mask in instance.segmentations)]


def scaled_max_side(config: EvalConfig, short_side: int) -> int | None:
    """The bound on the longer side, in the proportion that `config.short_side` has to it."""
    if config.max_side is None or config.short_side is None:
        return config.max_side
    return round(config.max_side * short_side / config.short_side)


def coarse_predictions(results: Sequence[Result], scores: Sequence[Tensor]) -> list[QueryPredictions]:
    """All queries of every result, with masks at one coarse size: that of the smallest input, in steps of 8 pixels."""
    smallest = min((result.sampling.input_size for result in results), key=math.prod)
    size = tuple(math.ceil(side / COARSE_STRIDE) for side in smallest)
    return [
        QueryPredictions(part, _coarse_masks(result, len(part), size))
        for result, part in zip(results, scores, strict=True)
    ]


def _coarse_masks(result: Result, num_queries: int, size: tuple[int, ...]) -> Tensor:
    """(Q, T, h, w)"""
    predictor = result.output.pred_masks
    assert predictor is not None
    masks = []
    for queries in torch.arange(num_queries, device=result.output.pred_logits.device).split(QUERIES_AT_ONCE):
        logits = predictor(0, queries)
        masks.append(resize_masks(logits.flatten(0, 1), result.sampling, size).unflatten(0, logits.shape[:2]))
    return torch.cat(masks)


def encode_average(
    masks: Sequence[Tensor], results: Sequence[Result], size: tuple[int, ...], threshold: float
) -> list[RLE | None]:
    """Run-length codes at image size of the mean probability of masks, (T, h, w) logits each."""
    parts = zip(*(logits.split(masks_at_once(size)) for logits in masks), strict=True)
    samplings = [result.sampling for result in results]
    averages = (
        average_masks([resize_masks(logits, where, size) for logits, where in zip(part, samplings, strict=True)])
        for part in parts
    )
    return encode_upsampled(averages, threshold)
