"""A tiny data set in the YouTube-VIS layout, as a document to break and as files; and clips and videos in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vislab import rle
from vislab.data.dataset import Category, FrameAnnotations, VideoInfo
from vislab.data.transforms import ClipSample, mask_boxes

HEIGHT, WIDTH, LENGTH = 12, 18, 3


def disc(row: float, column: float, radius: float = 3, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def document(num_videos: int = 4) -> dict[str, Any]:
    """Videos of 3 frames of 12x18, one instance in each, absent in the middle frame; category ids with gaps."""
    videos, annotations = [], []
    for i in range(num_videos):
        names = [f"clip{i}/{t:05d}.png" for t in range(LENGTH)]
        videos.append({"id": 10 + i, "height": HEIGHT, "width": WIDTH, "length": LENGTH, "file_names": names})
        masks = [disc(5, 5 + t) for t in range(LENGTH)]
        annotations.append(
            {
                "id": 100 + i,
                "video_id": 10 + i,
                "category_id": (7, 3)[i % 2],
                "iscrowd": 0,
                "segmentations": [rle.encode(mask) if t != 1 else None for t, mask in enumerate(masks)],
                "bboxes": [[2.0, 2.0, 7.0, 7.0], None, [4.0, 2.0, 7.0, 7.0]],
                "areas": [int(mask.sum()) if t != 1 else None for t, mask in enumerate(masks)],
            }
        )
    return {
        "videos": videos,
        "categories": [{"id": 7, "name": "disc"}, {"id": 3, "name": "ring"}],
        "annotations": annotations,
    }


def frame(video: int, t: int) -> np.ndarray:
    """(H, W, 3) uint8; the value tells video and frame."""
    picture = np.full((HEIGHT, WIDTH, 3), 20 * video, np.uint8)
    picture[..., 1] = 40 * t
    picture[..., 2] = np.arange(WIDTH)
    return picture


def write_frames(folder: Path, num_videos: int = 4) -> None:
    for i in range(num_videos):
        (folder / f"clip{i}").mkdir(parents=True)
        for t in range(LENGTH):
            Image.fromarray(frame(i, t)).save(folder / f"clip{i}" / f"{t:05d}.png")


def write_flat(folder: Path, num_videos: int = 4) -> Path:
    """The data set with JPEGImages/ and instances.json; returns the annotation file."""
    write_frames(folder / "JPEGImages", num_videos)
    (folder / "instances.json").write_text(json.dumps(document(num_videos)))
    return folder / "instances.json"


def random_clip(
    rng: np.random.Generator, frames: int = 3, instances: int = 2, height: int = 9, width: int = 14
) -> ClipSample:
    return ClipSample(
        frames=rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8),
        labels=np.arange(instances, dtype=np.int64),
        track_ids=np.arange(instances, dtype=np.int64) + 50,
        iscrowd=np.zeros(instances, bool),
        masks=rng.random((instances, frames, height, width)) < 0.2,
        frame_indices=tuple(range(frames)),
    )


class MemoryVideos:
    """A VideoDataset of given lengths. Pixel value = frame index; instance 0 is a disc, instance 1 a crowd strip.

    hidden: videos in which the disc is never visible (the crowd always is).
    """

    name = "memory"
    categories = (Category(1, "disc"), Category(2, "strip"))

    def __init__(self, lengths: Sequence[int], hidden: Sequence[int] = (), height: int = 32, width: int = 64) -> None:
        self.lengths, self.hidden, self.size = tuple(lengths), set(hidden), (height, width)

    def __len__(self) -> int:
        return len(self.lengths)

    def info(self, index: int) -> VideoInfo:
        return VideoInfo(index, f"video{index}", *self.size, self.lengths[index])

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        assert all(0 <= t < self.lengths[index] for t in frame_indices)
        return np.stack([np.full((*self.size, 3), t, np.uint8) for t in frame_indices])

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        masks = np.zeros((2, len(frame_indices), *self.size), bool)
        if index not in self.hidden:
            masks[0] = disc(self.size[0] / 2, self.size[1] / 2, 6, *self.size)
        masks[1, :, :2] = True
        present = masks.any(axis=(2, 3))
        return FrameAnnotations(
            np.array([0, 1]),
            np.array([5, 6]),
            np.array([False, True]),
            masks,
            mask_boxes(masks),
            present,
            present.astype(np.float32),
        )

    def ground_truth(self) -> dict[str, Any]:
        return {}

    def fingerprint(self) -> str:
        return "memory"
