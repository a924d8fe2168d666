"""A folder of frames as a data set of one video without labels: to predict and draw on, not to train or measure on.

Shape letters: T frames asked for, H W image size.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vislab.data.dataset import Category, FrameAnnotations, VideoInfo
from vislab.data.image_files import list_files, open_image
from vislab.errors import UserError

__all__ = ["FrameFolder"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_VIDEO_ID = 1


class FrameFolder:
    """The images of a folder, in the order of their names, as the frames of one video (a `VideoDataset`).

    Numbers in names count as numbers: 2.jpg comes before 10.jpg. categories: those that predictions are to be given in,
    such as the ones that a model was trained on. Raises UserError if there is no such folder or no image in it; images
    are opened when asked for, and must then have the size of the first.
    """

    def __init__(self, path: str | Path, categories: Sequence[Category]) -> None:
        self._folder = Path(path)
        if not self._folder.is_dir():
            raise UserError(f"{path}: there is no such folder")
        self._bytes = {
            name: size for name, size in list_files(self._folder).items() if Path(name).suffix.lower() in _SUFFIXES
        }
        self._names = sorted(self._bytes, key=_natural_order)
        if not self._names:
            raise UserError(f"{path}: no frames found, expected images ({', '.join(sorted(_SUFFIXES))})")
        self._size = self._first_size()
        self.name = self._folder.resolve().name
        self.categories = tuple(categories)

    def __len__(self) -> int:
        return 1

    def info(self, index: int) -> VideoInfo:
        """Named like the folder."""
        _check(index)
        width, height = self._size
        return VideoInfo(_VIDEO_ID, self.name, height, width, len(self._names))

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB. Raises UserError for a file that is no image or has another size than the first."""
        _check(index)
        width, height = self._size
        frames = np.empty((len(frame_indices), height, width, 3), np.uint8)
        for frame, t in zip(frames, frame_indices, strict=True):
            path = self._folder / self._names[t]
            frame[:] = np.asarray(open_image(path, f"{path}", width, height).convert("RGB"))
        return frames

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        """None at all."""
        info, count = self.info(index), len(frame_indices)
        none = np.zeros(0, np.int64)
        return FrameAnnotations(
            labels=none,
            track_ids=none,
            iscrowd=np.zeros(0, bool),
            masks=np.zeros((0, count, info.height, info.width), bool),
            boxes=np.zeros((0, count, 4), np.float32),
            present=np.zeros((0, count), bool),
            visible_fraction=np.zeros((0, count), np.float32),
        )

    def ground_truth(self) -> dict[str, Any]:
        """YouTube-VIS JSON without annotations."""
        info = self.info(0)
        video = {"id": info.id, "height": info.height, "width": info.width, "length": info.length}
        return {
            "videos": [video | {"file_names": list(self._names)}],
            "categories": [{"id": category.id, "name": category.name} for category in self.categories],
            "annotations": [],
        }

    def fingerprint(self) -> str:
        """SHA-256 of each frame's name and size in bytes; the content is not read."""
        parts = [f"{name} {self._bytes[name]}" for name in self._names]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _first_size(self) -> tuple[int, int]:
        """(width, height)."""
        path = self._folder / self._names[0]
        try:
            with Image.open(path) as image:
                return image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{path} cannot be read as an image ({error})") from None


def _natural_order(name: str) -> list[tuple[int, int | str]]:
    """Parts of digits as numbers, before other text."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def _check(index: int) -> None:
    if index != 0:
        raise IndexError(f"video {index} of a folder of frames, which is one video")
