"""Pairs of query and class: which of them become instances, and their masks.

Shape letters: Q queries, K classes, T frames, n pairs, U distinct masks, h w mask size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vislab.structures import MaskPredictor, ModelOutput, RegionMaskPredictor


def category_scores(output: ModelOutput, num_categories: int) -> Tensor:
    """Scores of a data set's categories, (Q, K); the model's others take part in a softmax, but are not read.

    output: of one clip.
    """
    return output.class_scores()[0, :, :num_categories]


def best_pairs(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `top_k` pairs of highest score, best first: scores, queries, classes, (n,) each. scores: (Q, K)."""
    best, position = scores.flatten().topk(min(top_k, scores.numel()))
    return best, position // scores.shape[1], position % scores.shape[1]


def pair_masks(predictor: MaskPredictor, queries: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mask logits of pairs in the only clip of an output, each distinct mask once, and which one each pair has.

    Pairs of one query share a mask, unless the model has one for each class. queries, labels: (n,) int64, of different
    pairs. Returns (U, T, h, w) and (n,) int64.
    """
    if isinstance(predictor, RegionMaskPredictor):
        return predictor(0, queries, labels), torch.arange(len(queries), device=queries.device)
    distinct, index = torch.unique(queries, return_inverse=True)
    return predictor(0, distinct), index
