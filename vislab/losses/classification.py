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
    logits: Tensor, targets: list[Targets], matches: list[tuple[Tensor, Tensor]], normaliser: float
) -> Tensor:
    """Focal loss of all queries, summed and divided by `normaliser` (the number of instances in Deformable DETR).

    logits: (B, Q, K), or (B, Q, T, K) where every frame has logits of its own: a matched query is then background in
    the frames where its instance is absent (DeVIS src/models/criterion.py:105-125; TeViT
    mmdet/core/bbox/assigners/tevit_hungarian_assigner.py:125-170). Returns a scalar.
    """
    one_hot = logits.new_zeros(logits.shape)
    for clip, target, (query_index, instance_index) in zip(one_hot, targets, matches, strict=True):
        labels = target.labels[instance_index]
        if logits.dim() == 4:
            clip[query_index, :, labels] = target.present[instance_index].to(clip)
        else:
            clip[query_index, labels] = 1.0
    return sigmoid_focal_loss(logits, one_hot).sum() / normaliser
