"""TTA: test-time augmentation by matching (IFR section 3.2): results of several resolutions become one.

Shape letters: R results, Q queries, T frames, K classes, n chosen queries, h w mask size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vislab.errors import UserError
from vislab.losses.mask_matching import MaskCostConfig
from vislab.losses.matching import assign

SATURATED = 1e-6  # mask probabilities are kept so far away from 0 and 1 where their logit is taken


@dataclass(frozen=True)
class TestTimeAugmentationConfig:
    """Inference on whole videos at several sizes.

    short_sides: pixels of the frames' shorter side, one result each; the paper has four and does not name them. A
    bound on the longer side grows with them. seed: of the pivots, one for each video. cost: what results are matched
    by.
    """

    __test__ = False  # no class of pytest's

    short_sides: tuple[int, ...]
    seed: int = 0
    cost: MaskCostConfig = MaskCostConfig()

    def __post_init__(self) -> None:
        if not self.short_sides or min(self.short_sides) < 1:
            found = f"evaluation.augmentation.short_sides is {self.short_sides}"
            raise UserError(f"{found}, expected at least one, each of 1 pixel or more")


@dataclass(frozen=True)
class QueryPredictions:
    """What a model sees in one video, of all its queries. scores: (Q, K) in [0, 1]. mask_logits: (Q, T, h, w)."""

    scores: Tensor
    mask_logits: Tensor


def random_pivot(count: int, generator: torch.Generator) -> int:
    """The result that the others are matched to, in 0..count-1."""
    return int(torch.randint(count, (), generator=generator))


def match_to_pivot(results: Sequence[QueryPredictions], pivot: int, cost: MaskCostConfig | None = None) -> Tensor:
    """Which query of each result is which query of the pivot, (R, Q) int64: one-to-one, of least cost by Eq. 4.

    The pivot stands where the ground truth does in training: its most probable class, its masks where they are above
    0.5. All results have the same Q, T, h and w: masks are to be brought to a common size, coarse for little memory.
    """
    target = results[pivot]
    labels = target.scores.argmax(-1)
    masks = (target.mask_logits.flatten(1) > 0).float()
    rows = []
    for index, result in enumerate(results):
        if index == pivot:
            rows.append(torch.arange(len(labels), device=labels.device))
            continue
        logits = result.mask_logits.flatten(1).float()
        queries, instances = assign((cost or MaskCostConfig()).combine(result.scores, labels, logits, masks))
        rows.append(queries[instances.argsort()])
    return torch.stack(rows)


def average_scores(scores: Sequence[Tensor], queries: Tensor) -> Tensor:
    """Mean class probabilities of the matched queries. scores: R of (Q, K); queries: (R, n). Returns (n, K)."""
    return torch.stack([part[index] for part, index in zip(scores, queries, strict=True)]).mean(0)


def average_masks(mask_logits: Sequence[Tensor]) -> Tensor:
    """Mean mask probability of matched masks at a common size, as a logit. R of (n, T, h, w) to (n, T, h, w)."""
    total = torch.zeros_like(mask_logits[0], dtype=torch.float32)
    for logits in mask_logits:
        total += logits.float().sigmoid()
    return torch.logit(total / len(mask_logits), eps=SATURATED)


def average_predictions(
    results: Sequence[QueryPredictions], pivot: int, cost: MaskCostConfig | None = None
) -> QueryPredictions:
    """All queries of the pivot, each averaged with its match in every other result. A single result keeps its scores,
    and its masks but for saturation."""
    queries = match_to_pivot(results, pivot, cost)
    scores = average_scores([result.scores for result in results], queries)
    matched = [result.mask_logits[index] for result, index in zip(results, queries, strict=True)]
    return QueryPredictions(scores, average_masks(matched))
