"""Sigmoid focal loss over queries and classes (Lin et al., Focal Loss; as Deformable DETR normalises it)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from vislab.losses.matching import FOCAL_ALPHA, FOCAL_GAMMA
from vislab.structures import Targets


def sigmoid_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of each element; logits and target (0 or 1) of one shape, which is returned."""
    probability = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    miss = probability + target - 2 * probability * target
    weight = FOCAL_ALPHA * target + (1 - FOCAL_ALPHA) * (1 - target)
    return weight * miss**FOCAL_GAMMA * cross_entropy


def classification_loss(
    logits: Tensor, targets: list[Targets], matches: list[tuple[Tensor, Tensor]], num_instances: float
) -> Tensor:
    """Focal loss of all queries, summed and divided by the number of instances (Deformable DETR's normalisation).

    logits: (B, Q, K). Returns a scalar.
    """
    one_hot = logits.new_zeros(logits.shape)
    for batch_index, (target, (query_index, instance_index)) in enumerate(zip(targets, matches, strict=True)):
        one_hot[batch_index, query_index, target.labels[instance_index]] = 1.0
    return sigmoid_focal_loss(logits, one_hot).sum() / num_instances
