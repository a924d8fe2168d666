"""Dice and focal losses of mask sequences.

Shape letters: T frames, N matched instances, H W label size, h w mask size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vislab.losses.classification import sigmoid_focal_loss
from vislab.structures import MaskPredictor, ModelOutput, Targets

DICE_SQUARED_EPS = 1e-5  # hustvl/TeViT configs/tevit/tevit_r50.py


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 |p t| + 1) / (|p| + |t| + 1) of each row (Milletari et al., V-Net). (N, X), (N, X) -> (N,)."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + target.sum(-1) + 1)


def squared_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - 2 |p t| / (|p^2| + |t^2| + 2 eps) of each row (V-Net's denominators; hustvl/TeViT
    mmdet/models/losses/dice_loss.py:53-55). (N, X), (N, X) -> (N,)."""
    probability = logits.sigmoid()
    overlap = 2 * (probability * target).sum(-1)
    return 1 - overlap / (probability.square().sum(-1) + target.square().sum(-1) + 2 * DICE_SQUARED_EPS)


def mask_losses(
    output: ModelOutput, targets: list[Targets], matches: list[tuple[Tensor, Tensor]], mask_stride: int,
    num_instances: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Dice and mean focal loss over all pixels of all frames of each matched instance, divided by the instances.

    The targets are read where `sampled_masks` says. Returns two scalars.
    """
    assert output.pred_masks is not None, "this layer predicts no masks"
    dice, focal = [], []
    for batch_index, (target, (query_index, instance_index)) in enumerate(zip(targets, matches, strict=True)):
        logits = output.pred_masks(batch_index, query_index).float().flatten(1)
        wanted = sampled_masks(target.masks[instance_index], mask_stride).flatten(1).to(logits)
        dice.append(dice_loss(logits, wanted))
        focal.append(sigmoid_focal_loss(logits, wanted).mean(-1))
    return torch.cat(dice).sum() / num_instances, torch.cat(focal).sum() / num_instances


def frame_mask_losses(
    pred_masks: MaskPredictor,
    targets: list[Targets],
    matches: list[tuple[Tensor, Tensor]],
    mask_stride: int,
    normaliser: float,
    *,
    absent: Literal["ignore", "regress"],
    dice: Literal["smooth", "squared"],
    resolution: Literal["stride", "input"],
) -> tuple[Tensor, Tensor]:
    """Dice and mean focal loss of every pair of instance and frame, summed and divided by `normaliser`.

    Per frame, as in DeVIS (src/models/criterion.py:174-203) and TeViT, not over the volume of the clip.
    absent: frames without the instance are left out, or learn the empty mask. resolution: at the size of the
    predictions, with targets read where `sampled_masks` says, or with the predictions upsampled bilinearly to the size
    of the input, as the released DeVIS does at many times the memory; that places a prediction at the centre of its
    cell, half a pixel from where `sampled_masks` does. Masks are predicted for clips with matches only. Returns two
    scalars.
    """
    row_dice_loss = dice_loss if dice == "smooth" else squared_dice_loss
    dice_sum = focal_sum = targets[0].boxes.new_zeros(())
    for batch_index, (target, (query_index, instance_index)) in enumerate(zip(targets, matches, strict=True)):
        if not len(query_index):
            continue
        present = target.present[instance_index]
        counted = present if absent == "ignore" else torch.ones_like(present)
        logits = pred_masks(batch_index, query_index)[counted].float()
        masks = target.masks[instance_index][counted]
        if resolution == "input":
            size = masks.shape[-2:]
            logits = functional.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        else:
            masks = sampled_masks(masks, mask_stride)
        rows, wanted = logits.flatten(1), masks.flatten(1).to(logits)
        dice_sum = dice_sum + row_dice_loss(rows, wanted).sum()
        focal_sum = focal_sum + sigmoid_focal_loss(rows, wanted).mean(-1).sum()
    return dice_sum / normaliser, focal_sum / normaliser


def sampled_masks(masks: Tensor, mask_stride: int) -> Tensor:
    """(..., H, W) labels at the centres of the mask pixels, (..., h, w): pixel (i, j) stands for the label pixel at
    mask_stride * i + mask_stride // 2, and j likewise (SeqFormer models/seqformer.py:301-356)."""
    start = mask_stride // 2
    return masks[..., start::mask_stride, start::mask_stride]
