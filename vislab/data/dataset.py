"""What a video data set is to the rest of vislab: one protocol, and the plain records that travel through it.

Shape letters: T frames asked for, N instances, H W image size, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

Split = Literal["train", "valid"]


class Category(NamedTuple):
    """One class of a data set. id: as in its annotation file (often 1-based, may have gaps); name: lower case words."""

    id: int
    name: str


class VideoInfo(NamedTuple):
    """One video. id: as in the annotation file; name: its folder; height, width in pixels; length in frames."""

    id: int
    name: str
    height: int
    width: int
    length: int


@dataclass
class FrameAnnotations:
    """The instances of one video in the frames asked for.

    labels: (N,) int64, position in `VideoDataset.categories` (0..K-1), not the category id.
    track_ids: (N,) int64, the instance's identity in its video, the same whichever frames are asked for.
    iscrowd: (N,) bool. masks: (N, T, H, W) bool. boxes: (N, T, 4) float32, xyxy in pixels, tight around the visible
    pixels (x2, y2 exclusive), zeros where absent. present: (N, T) bool, False where the frame is null.
    visible_fraction: (N, T) float32 in [0, 1], visible pixels over those of the whole silhouette; 0 where absent,
    1 where present and the data set does not know.
    """

    labels: np.ndarray
    track_ids: np.ndarray
    iscrowd: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    present: np.ndarray
    visible_fraction: np.ndarray


@runtime_checkable
class VideoDataset(Protocol):
    """Videos with instance masks. Everything is read by index, in 0..len-1, and by frame, in 0..length-1."""

    name: str
    categories: tuple[Category, ...]

    def __len__(self) -> int:
        """Number of videos."""
        ...

    def info(self, index: int) -> VideoInfo:
        """Size, length and identity of one video, without reading a frame."""
        ...

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        """The frames asked for, in that order: (T, H, W, 3) uint8, RGB."""
        ...

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        """The instances that are present in at least one of the frames asked for."""
        ...

    def ground_truth(self) -> dict[str, Any]:
        """The whole split as YouTube-VIS JSON: videos, categories, annotations with one RLE or null per frame."""
        ...

    def fingerprint(self) -> str:
        """Hash that is equal exactly when frames and annotations are."""
        ...


@dataclass(frozen=True)
class DatasetConfig:
    """Which data. None means: as the data set has it.

    name: a synthetic preset with dials ("synthetic-ytvis19+faint=0.1"), or the path of a data set.
    num_videos: keep only the first so many videos. height, width: pixels; length: frames of every video;
    num_categories; seed: these five are for synthetic presets only.
    """

    name: str
    num_videos: int | None = None
    height: int | None = None
    width: int | None = None
    length: int | None = None
    num_categories: int | None = None
    seed: int = 0
