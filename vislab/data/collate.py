"""Clips to a padded, normalised batch of tensors.

Shape letters: B batch, T frames, N instances, H W padded image size, h w image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vislab.data.transforms import ClipSample, resize_frames, scaled_size
from vislab.structures import Batch, Targets

__all__ = ["PIXEL_MEAN", "PIXEL_STD", "SIZE_MULTIPLE", "collate", "pad_batch", "video_batch"]

PIXEL_MEAN = (123.675, 116.28, 103.53)  # ImageNet, RGB, of values in 0..255
PIXEL_STD = (58.395, 57.12, 57.375)
SIZE_MULTIPLE = 32  # the coarsest backbone stride: feature maps of all levels then align


def collate(clips: Sequence[ClipSample]) -> Batch:
    """Batch of clips of equal length; images smaller than the padded size get zeros at the right and bottom.

    The padded size is the largest height and width, rounded up to a multiple of 32. Targets hold the instances that are
    visible in at least one frame and are not crowd regions (a crowd's outline is no instance to learn).
    """
    batch = _image_batch([clip.frames for clip in clips])
    padded_size = (batch.images.shape[-2], batch.images.shape[-1])
    batch.targets = [_targets(clip, padded_size) for clip in clips]
    batch.video_names = [clip.video for clip in clips]
    batch.frame_numbers = torch.from_numpy(np.stack([clip.frame_numbers for clip in clips]))
    return batch


def video_batch(frames: np.ndarray, short_side: int | None = None, max_side: int | None = None) -> Batch:
    """Batch of one unlabelled clip from (T, h, w, 3) uint8 RGB frames.

    They are resized so that the shorter side is `short_side` (None: as they are) and the longer at most `max_side`.
    """
    if short_side is not None:
        frames = resize_frames(frames, *scaled_size(frames.shape[1], frames.shape[2], short_side, max_side))
    return _image_batch([frames])


def pad_batch(batch: Batch, height: int, width: int) -> Batch:
    """Padded further, to H = height and W = width, as `collate` does beside larger clips."""
    border = (0, width - batch.images.shape[-1], 0, height - batch.images.shape[-2])
    if not any(border):
        return batch
    return replace(
        batch,
        images=functional.pad(batch.images, border),
        padding_mask=functional.pad(batch.padding_mask, border, value=True),
        targets=[replace(target, masks=functional.pad(target.masks, border)) for target in batch.targets],
    )


def _image_batch(clips: Sequence[np.ndarray]) -> Batch:
    """Normalises and pads a list of (T, h, w, 3) uint8 clips."""
    assert clips and len({len(frames) for frames in clips}) == 1, "clips of one batch have equal length"
    sizes = torch.tensor([frames.shape[1:3] for frames in clips], dtype=torch.int64)
    height, width = (-(-int(side) // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in sizes.amax(dim=0))
    images = torch.zeros(len(clips), len(clips[0]), 3, height, width)
    padding = torch.ones(len(clips), height, width, dtype=torch.bool)
    for image, mask, frames, (h, w) in zip(images, padding, clips, sizes.tolist(), strict=True):
        _normalise(frames, out=image[..., :h, :w])
        mask[:h, :w] = False
    return Batch(images, padding, sizes)


def _normalise(frames: np.ndarray, out: Tensor) -> None:
    """Writes (T, h, w, 3) uint8 as normalised floats to `out`, (T, 3, h, w)."""
    std = torch.tensor(PIXEL_STD).view(3, 1, 1)
    mean = torch.tensor(PIXEL_MEAN).view(3, 1, 1)
    out.copy_(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2))
    out.sub_(mean).div_(std)


def _targets(clip: ClipSample, padded_size: tuple[int, int]) -> Targets:
    keep = clip.present.any(axis=1) & ~clip.iscrowd
    height, width = clip.size
    return Targets(
        labels=torch.from_numpy(clip.labels[keep]),
        boxes=_relative_cxcywh(torch.from_numpy(clip.boxes[keep]), height, width),
        masks=_padded(clip.masks[keep], padded_size),
        present=torch.from_numpy(clip.present[keep]),
        track_ids=torch.from_numpy(clip.track_ids[keep]),
    )


def _relative_cxcywh(boxes: Tensor, height: int, width: int) -> Tensor:
    """(..., 4) xyxy in pixels to cxcywh in [0, 1] of the unpadded image."""
    corner, opposite = boxes[..., :2], boxes[..., 2:]
    scale = torch.tensor([width, height, width, height])
    return torch.cat([(corner + opposite) / 2, opposite - corner], dim=-1) / scale


def _padded(masks: np.ndarray, padded_size: tuple[int, int]) -> Tensor:
    if masks.shape[-2:] == padded_size:
        return torch.from_numpy(np.ascontiguousarray(masks))
    padded = torch.zeros(*masks.shape[:2], *padded_size, dtype=torch.bool)
    padded[..., : masks.shape[-2], : masks.shape[-1]] = torch.from_numpy(np.ascontiguousarray(masks))
    return padded
