"""Dice and focal losses of masks that are predicted on boxes, where they are predicted (QueryInst, TeViT).

Shape letters: n pairs of instance and frame of all clips, H W label size, s side of a region's mask.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vislab.losses.classification import sigmoid_focal_loss
from vislab.losses.masks import dice_loss, squared_dice_loss
from vislab.ops.region_masks import crop_masks
from vislab.structures import RegionMaskPredictor, Targets

FOREGROUND = 0.5  # share of a cell that the instance covers (hustvl/TeViT mmdet/core/mask/structures.py)

Matches = list[tuple[Tensor, Tensor]]


def region_mask_losses(
    pred_masks: RegionMaskPredictor,
    targets: list[Targets],
    matches: Matches,
    normaliser: float,
    *,
    absent: Literal["ignore", "regress"],
    dice: Literal["smooth", "squared"],
) -> tuple[Tensor, Tensor]:
    """Dice and mean focal loss of every pair of instance and frame on its predicted box, summed over the pairs.

    The label is cut out of the box and brought to the mask's size, and the mask is that of the instance's class. All
    pairs of the batch are predicted at once; without any, nothing is. absent, normaliser, dice: as in
    `frame_mask_losses`. Returns two scalars.
    """
    index, masks = _pairs(targets, matches, absent)
    if not len(masks):
        return masks.new_zeros((), dtype=torch.float32), masks.new_zeros((), dtype=torch.float32)
    logits, boxes = pred_masks.on_regions(*index)
    wanted = crop_masks(masks, boxes, logits.shape[-1]) >= FOREGROUND
    rows, columns = logits.float().flatten(1), wanted.flatten(1).float()
    row_dice_loss = dice_loss if dice == "smooth" else squared_dice_loss
    focal = sigmoid_focal_loss(rows, columns).mean(-1)
    return row_dice_loss(rows, columns).sum() / normaliser, focal.sum() / normaliser


def _pairs(
    targets: list[Targets], matches: Matches, absent: Literal["ignore", "regress"]
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Of every pair that counts: clip, query, frame and class, (n,) int64 each, and its mask, (n, H, W) bool."""
    indices, masks = [], []
    for clip, (target, (query_index, instance_index)) in enumerate(zip(targets, matches, strict=True)):
        present = target.present[instance_index]
        rows, frames = (present if absent == "ignore" else torch.ones_like(present)).nonzero(as_tuple=True)
        instances = instance_index[rows]
        indices.append(torch.stack((torch.full_like(rows, clip), query_index[rows], frames, target.labels[instances])))
        masks.append(target.masks[instances, frames])
    clip_index, queries, frames, labels = torch.cat(indices, dim=1)
    return (clip_index, queries, frames, labels), torch.cat(masks)
