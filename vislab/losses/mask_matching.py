"""Matching of queries to instances by class and mask (IFR Eq. 4; Mask2Former-VIS).

Shape letters: Q queries, T frames, K classes, N instances, P points, X points of all frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vislab.losses.matching import assign
from vislab.losses.point_sampling import at_least_float, random_points, sample_points
from vislab.shared_batch import total_before
from vislab.structures import MaskPredictor, ModelOutput, Targets


@dataclass(frozen=True)
class MaskCostConfig:
    """Weights of Eq. 4: lambda_c, lambda_m, lambda_d (IFR section 4.1)."""

    class_cost: float = 2.0
    mask_cost: float = 5.0
    dice_cost: float = 5.0

    def combine(self, scores: Tensor, labels: Tensor, logits: Tensor, masks: Tensor) -> Tensor:
        """Cost of every pair (Q, N). scores: (Q, K) in [0, 1]; labels: (N,); logits: (Q, X); masks: (N, X) in [0, 1].

        The class term is -p of the label's class, a sigmoid or softmax score, also where the class loss is focal.
        """
        cross_entropy, dice = pairwise_mask_costs(logits, masks)
        return self.mask_cost * cross_entropy + self.dice_cost * dice - self.class_cost * scores[:, labels]


def pairwise_mask_costs(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean binary cross-entropy and dice loss of every pair: (Q, X), (N, X) -> two (Q, N).

    One dice over the pixels of all frames, with 1 added above and below (facebookresearch/Mask2Former
    mask2former_video/modeling/matcher.py:18-60).
    """
    loss_inside, loss_outside = functional.softplus(-logits), functional.softplus(logits)
    cross_entropy = loss_inside @ masks.T + loss_outside @ (1 - masks).T
    probability = logits.sigmoid()
    overlap = 2 * probability @ masks.T
    dice = 1 - (overlap + 1) / (probability.sum(-1)[:, None] + masks.sum(-1) + 1)
    return cross_entropy / logits.shape[1], dice


@dataclass(frozen=True)
class MaskMatcherConfig:
    """cost: its weights. num_points: points of each frame at which masks are compared, the same for all."""

    cost: MaskCostConfig = MaskCostConfig()
    num_points: int = 12544


@torch.no_grad()
def match_masks(
    output: ModelOutput, targets: list[Targets], config: MaskMatcherConfig, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """One-to-one assignment of least cost for each clip: (query_index, instance_index), as `assign` does.

    generator: draws the points, those of one clip after the other; its state is that at the batch's first clip, also
    where this process has others (`vislab.shared_batch`).
    """
    assert output.pred_masks is not None, "this layer predicts no masks"
    scores = output.class_scores()
    every_query = torch.arange(scores.shape[1], device=scores.device)
    for _ in range(total_before(sum(len(target.labels) > 0 for target in targets))):
        random_points(1, config.num_points, generator)
    matches = []
    for batch_index, target in enumerate(targets):
        if not len(target.labels):
            matches.append((torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)))
            continue
        points = random_points(1, config.num_points, generator)
        logits = _clip_samples(output.pred_masks, batch_index, every_query, points)
        masks = sample_points(target.masks.flatten(0, 1)[None].to(logits), points).reshape(len(target.labels), -1)
        matches.append(assign(config.cost.combine(scores[batch_index].to(logits), target.labels, logits, masks)))
    return matches


def _clip_samples(pred_masks: MaskPredictor, batch_index: int, queries: Tensor, points: Tensor) -> Tensor:
    """Mask logits of all queries at the same points of every frame: (Q, T * P), at least float32."""
    logits = at_least_float(pred_masks(batch_index, queries))
    return sample_points(logits.flatten(0, 1)[None], points).reshape(len(queries), -1)
