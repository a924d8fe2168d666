"""Clips made by hand or at random, and what becomes of them; for the tests of stitching.

Shape letters: T frames of the clip, M detections, U distinct masks, H W image size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from vislab.stitching import ClipDetections, ClipInferenceConfig, ClipStitcher, ImageMasks, TrackedFrame, clip_windows

SIZE = (3, 4)
AS_THEY_ARE = ImageMasks(lambda logits: logits.clone())  # mask logits at image size


def random_clip(
    rng: np.random.Generator, first: int, length: int, num_masks: int, num_detections: int
) -> ClipDetections:
    """Some scores are below every floor; several detections may share a mask."""
    shape = (num_detections, length)
    return ClipDetections(
        first=first,
        labels=rng.integers(0, 3, num_detections),
        scores=np.where(rng.random(shape) < 0.3, 1e-4, 1.0).astype(np.float32) * rng.random(shape, dtype=np.float32),
        boxes=rng.random((*shape, 4), dtype=np.float32),
        mask_index=rng.integers(0, max(num_masks, 1), num_detections),
        mask_logits=torch.from_numpy(rng.normal(0, 3, (num_masks, length, *SIZE)).astype(np.float32)),
    )


def random_clips(seed: int, num_frames: int, config: ClipInferenceConfig, most: int = 4) -> list[ClipDetections]:
    """Every clip of a video, each with 0 to `most` detections."""
    rng = np.random.default_rng(seed)
    clips = []
    for window in clip_windows(num_frames, config.clip_length, config.clip_stride):
        num_masks = int(rng.integers(0, most + 1))
        num_detections = int(rng.integers(0, most + 1)) if num_masks else 0
        clips.append(random_clip(rng, window.first, window.length, num_masks, num_detections))
    return clips


def permuted(clip: ClipDetections, order: np.ndarray, mask_order: np.ndarray) -> ClipDetections:
    """The same detections, listed in another order, with masks in another order."""
    return ClipDetections(
        clip.first,
        clip.labels[order],
        clip.scores[order],
        clip.boxes[order],
        np.argsort(mask_order)[clip.mask_index[order]] if len(mask_order) else clip.mask_index[order],
        clip.mask_logits[mask_order],
    )


def stitched(
    clips: Iterable[ClipDetections], config: ClipInferenceConfig, masks: ImageMasks = AS_THEY_ARE
) -> list[TrackedFrame]:
    """All frames of the video."""
    stitcher = ClipStitcher(config, masks)
    return [frame for clip in clips for frame in stitcher.push(clip)] + stitcher.flush()


def by_track(frames: Sequence[TrackedFrame]) -> dict[int, dict[int, tuple]]:
    """track -> frame -> (label, score, counts or None)."""
    tracks: dict[int, dict[int, tuple]] = {}
    for frame in frames:
        for cell in frame.instances:
            counts = cell.segmentation and cell.segmentation["counts"]
            tracks.setdefault(cell.track_id, {})[frame.frame] = (cell.label, cell.score, counts)
    return tracks


def partition(frames: Sequence[TrackedFrame]) -> list[tuple]:
    """The tracks without their names, in an order of their own."""
    return sorted(tuple(sorted(track.items(), key=repr)) for track in by_track(frames).values())
