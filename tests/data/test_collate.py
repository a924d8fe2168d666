"""Batches: normalisation, padding, targets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_videos import random_clip

from vislab.data.collate import PIXEL_MEAN, PIXEL_STD, collate, pad_batch, video_batch
from vislab.data.transforms import ClipSample


def clip_of(seed: int, **sizes: int) -> ClipSample:
    return random_clip(np.random.default_rng(seed), **sizes)


def test_images_are_normalised_and_padded_with_zeros() -> None:
    clips = [clip_of(0, height=40, width=33), clip_of(1, height=20, width=60)]
    batch = collate(clips)
    assert batch.images.shape == (2, 3, 3, 64, 64) and batch.images.dtype == torch.float32
    assert batch.image_sizes.tolist() == [[40, 33], [20, 60]] and batch.image_sizes.dtype == torch.int64
    for image, padding, clip in zip(batch.images, batch.padding_mask, clips, strict=True):
        height, width = clip.size
        expected = (clip.frames - np.array(PIXEL_MEAN)) / np.array(PIXEL_STD)
        np.testing.assert_allclose(image[..., :height, :width], expected.transpose(0, 3, 1, 2), atol=1e-6)
        assert not padding[:height, :width].any() and padding[height:].all() and padding[:, width:].all()
        assert not image[..., padding].any()


def test_equal_sizes_that_are_multiples_of_32_are_not_padded() -> None:
    batch = collate([clip_of(i, height=32, width=96) for i in range(3)])
    assert batch.images.shape[-2:] == (32, 96) and not batch.padding_mask.any()


def test_targets_follow_the_masks() -> None:
    clip = clip_of(2, frames=4, instances=3, height=21, width=35)
    clip.masks[1, 2] = False
    (target,) = collate([clip]).targets
    assert target.labels.dtype == target.track_ids.dtype == torch.int64
    assert target.labels.tolist() == [0, 1, 2] and target.track_ids.tolist() == [50, 51, 52]
    assert target.masks.shape == (3, 4, 32, 64) and target.masks.dtype == torch.bool
    assert np.array_equal(target.masks[..., :21, :35], clip.masks) and target.masks.sum() == clip.masks.sum()
    assert not target.present[1, 2] and target.present.sum() == 11
    assert target.boxes.dtype == torch.float32 and target.boxes[1, 2].tolist() == [0, 0, 0, 0]
    center, size = target.boxes[..., :2], target.boxes[..., 2:]
    corners = torch.cat([center - size / 2, center + size / 2], -1) * torch.tensor([35, 21, 35, 21])
    np.testing.assert_allclose(corners, clip.boxes, atol=1e-4)
    assert target.boxes.min() >= 0 and target.boxes.max() <= 1


def test_crowds_and_invisible_instances_are_no_targets() -> None:
    clip = replace(clip_of(3, instances=3), iscrowd=np.array([False, True, False]))
    clip.masks[2] = False
    (target,) = collate([clip]).targets
    assert target.track_ids.tolist() == [50] and target.masks.shape[0] == 1


def test_a_clip_without_targets_has_empty_tensors_of_full_rank() -> None:
    (target,) = collate([clip_of(4, frames=2, instances=0)]).targets
    assert target.labels.shape == (0,) and target.boxes.shape == (0, 2, 4) and target.masks.shape == (0, 2, 32, 32)
    assert target.present.shape == (0, 2) and target.present.dtype == torch.bool


def test_mirrored_views_are_accepted() -> None:
    """numpy views with negative strides, which torch refuses."""
    clip = clip_of(5, height=32, width=32)
    view = replace(clip, frames=clip.frames[:, :, ::-1], masks=clip.masks[..., ::-1])
    copy = replace(clip, frames=clip.frames[:, :, ::-1].copy(), masks=clip.masks[..., ::-1].copy())
    assert torch.equal(collate([view]).images, collate([copy]).images)
    assert torch.equal(collate([view]).targets[0].masks, collate([copy]).targets[0].masks)


def test_frame_numbers_of_every_clip() -> None:
    clips = [replace(clip_of(0), frame_indices=indices) for indices in ((2, 5, 9), (4, 4, 4))]
    numbers = collate(clips).frame_numbers
    assert numbers is not None and numbers.dtype == torch.int64 and numbers.tolist() == [[2, 5, 9], [0, 1, 2]]


def test_clips_of_different_length_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        collate([clip_of(0, frames=2), clip_of(0, frames=3)])


def test_padding_alone_as_beside_larger_clips() -> None:
    clips = [clip_of(0, height=40, width=33), clip_of(1, height=20, width=90)]
    together, alone = collate(clips), pad_batch(collate(clips[:1]), 64, 96)
    assert torch.equal(alone.images, together.images[:1])
    assert torch.equal(alone.padding_mask, together.padding_mask[:1])
    assert torch.equal(alone.targets[0].masks, together.targets[0].masks) and alone.targets[0].masks.dtype == torch.bool
    assert torch.equal(alone.targets[0].boxes, together.targets[0].boxes)
    assert pad_batch(together, 64, 96) is together


def test_video_batch_resizes_and_has_no_targets() -> None:
    frames = np.random.default_rng(6).integers(0, 256, (2, 36, 64, 3), dtype=np.uint8)
    assert torch.equal(
        video_batch(frames).images[..., :36, :64], collate([clip_of_frames(frames)]).images[..., :36, :64]
    )
    batch = video_batch(frames, short_side=48, max_side=72)
    assert batch.image_sizes.tolist() == [[41, 72]] and batch.images.shape == (1, 2, 3, 64, 96) and batch.targets == []


def clip_of_frames(frames: np.ndarray) -> ClipSample:
    none = np.zeros(0, np.int64)
    return ClipSample(frames, none, none, none.astype(bool), np.zeros((0, *frames.shape[:3]), bool))
