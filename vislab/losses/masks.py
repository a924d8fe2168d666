"""Dice and focal losses of mask sequences.

Shape letters: T frames, N matched instances, h w mask size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vislab.losses.classification import sigmoid_focal_loss
from vislab.structures import ModelOutput, Targets


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 |p t| + 1) / (|p| + |t| + 1) of each row (Milletari et al., V-Net). (N, X), (N, X) -> (N,)."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + target.sum(-1) + 1)


def mask_losses(
    output: ModelOutput, targets: list[Targets], matches: list[tuple[Tensor, Tensor]], mask_stride: int,
    num_instances: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Dice and mean focal loss over all pixels of all frames of each matched instance, divided by the instances.

    The target of mask pixel (i, j) is the label pixel at mask_stride * i + mask_stride // 2 (SeqFormer
    models/seqformer.py:301-356). Returns two scalars.
    """
    start = mask_stride // 2
    dice, focal = [], []
    for batch_index, (target, (query_index, instance_index)) in enumerate(zip(targets, matches, strict=True)):
        logits = output.pred_masks(batch_index, query_index).float().flatten(1)
        wanted = target.masks[instance_index][..., start::mask_stride, start::mask_stride].flatten(1).to(logits)
        dice.append(dice_loss(logits, wanted))
        focal.append(sigmoid_focal_loss(logits, wanted).mean(-1))
    return torch.cat(dice).sum() / num_instances, torch.cat(focal).sum() / num_instances
