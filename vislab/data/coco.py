"""Reader of COCO data sets: every image is a video of one frame.

Shape letters: T frames asked for, N instances, H W image size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vislab import rle
from vislab.data import splits
from vislab.data.coco_file import CocoFile, Still, read_coco
from vislab.data.dataset import Category, FrameAnnotations, Split, VideoInfo
from vislab.data.image_files import list_files, open_image
from vislab.data.layout import choose_part, find_stills, parts_of
from vislab.data.transforms import mask_boxes
from vislab.errors import UserError

__all__ = ["CocoImages", "image_sizes", "open_still"]


class CocoImages:
    """Images of a folder, or of an annotation file, in COCO's format (a `VideoDataset`).

    path, one of
      folder with annotations/instances_train2017.json and train2017/ (or images/train2017/), the same for val2017;
      annotation file, with its images in a folder of its name, in images/ or JPEGImages/, or beside it.
    Where only one file has labels, it is divided between the splits by image name (vislab.data.splits), as the videos
    of `YouTubeVIS` are. num_videos: keep only the first so many images.

    Labels are positions in "categories", 0..79 for COCO, whose ids run to 90. Raises UserError for whatever is wrong
    with the annotations or missing on disk; images are opened, and polygons drawn, when asked for.
    """

    def __init__(self, path: str | Path, split: Split = "train", *, num_videos: int | None = None) -> None:
        if num_videos is not None and num_videos < 1:
            raise UserError(f"num_videos is {num_videos}, expected at least 1")
        self._file, chosen = choose_part(path, split, _read)
        self._positions = chosen[:num_videos]
        self._folder = find_stills(self._file.path)
        self._bytes = image_sizes(self._file.path, self._folder, (self._still(i) for i in range(len(self))))
        self.name = parts_of(path)[0].resolve().name
        self.categories: tuple[Category, ...] = self._file.categories

    def __len__(self) -> int:
        return len(self._positions)

    def info(self, index: int) -> VideoInfo:
        """The image as a video of one frame, named like its file."""
        still = self._still(index)
        return VideoInfo(still.id, still.name, still.height, still.width, 1)

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB, T times the image; every frame index is 0.

        Raises UserError for a file that is no image or has another size than the annotations say.
        """
        _check_frames(frame_indices)
        picture = np.asarray(open_still(self._folder, self._still(index)).convert("RGB"))
        return np.repeat(picture[None], len(frame_indices), axis=0)

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        """The instances of the image that have a pixel, in every frame asked for."""
        _check_frames(frame_indices)
        still, columns = self._still(index), self._file.rows(self._positions[index])
        drawn = [rle.decode_checked(self._file.mask(row)) for row in range(columns.start, columns.stop)]
        masks = np.array(drawn, bool).reshape(-1, 1, still.height, still.width)
        seen = masks.any(axis=(1, 2, 3)) & bool(len(frame_indices))
        masks = np.repeat(masks[seen], len(frame_indices), axis=1)
        present = np.ones(masks.shape[:2], bool)
        return FrameAnnotations(
            labels=self._file.labels[columns][seen],
            track_ids=self._file.ids[columns][seen],
            iscrowd=self._file.iscrowd[columns][seen],
            masks=masks,
            boxes=mask_boxes(masks),
            present=present,
            visible_fraction=present.astype(np.float32),
        )

    def ground_truth(self) -> dict[str, Any]:
        """The split as YouTube-VIS JSON, every list with one entry. Areas are the file's own, boxes those of masks."""
        return {
            "videos": [self._video_entry(index) for index in range(len(self))],
            "categories": [dict(entry) for entry in self._file.category_entries],
            "annotations": [entry for index in range(len(self)) for entry in self._annotation_entries(index)],
        }

    def fingerprint(self) -> str:
        """SHA-256 of the annotation file, the names of the split's images, and each one's size in bytes.

        The images' content is not read: that would take minutes.
        """
        names = splits.names_hash(f"{self._still(index).id} {self._still(index).name}" for index in range(len(self)))
        parts = [self._file.digest, names]
        parts += [f"{name} {size}" for name, size in sorted(self._bytes.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _still(self, index: int) -> Still:
        return self._file.images[self._positions[index]]

    def _video_entry(self, index: int) -> dict[str, Any]:
        still = self._still(index)
        return {
            "id": still.id,
            "height": still.height,
            "width": still.width,
            "length": 1,
            "file_names": [still.file_name],
        }

    def _annotation_entries(self, index: int) -> list[dict[str, Any]]:
        file, columns = self._file, self._file.rows(self._positions[index])
        entries = []
        for row in range(columns.start, columns.stop):
            mask, area = file.mask(row), float(file.areas[row])
            entries.append(
                {
                    "id": int(file.ids[row]),
                    "video_id": self._still(index).id,
                    "category_id": self.categories[int(file.labels[row])].id,
                    "iscrowd": int(file.iscrowd[row]),
                    "segmentations": [mask],
                    "bboxes": [list(rle.box(mask))],
                    "areas": [rle.area(mask) if math.isnan(area) else area],
                }
            )
        return entries


def _read(path: Path, labels_required: bool) -> CocoFile:
    return read_coco(path, labels_required=labels_required)


def _check_frames(frame_indices: Sequence[int]) -> None:
    if any(frame_indices):
        raise IndexError(f"frames {list(frame_indices)} of an image, which has frame 0 only")


def open_still(folder: Path, still: Still) -> Image.Image:
    """The image, decoded. Raises UserError if it is none of the size that the annotations say."""
    path = folder / still.file_name
    return open_image(path, f"{path}: image {still.id}: file_name", still.width, still.height)


def image_sizes(annotations: Path, folder: Path, stills: Iterable[Still]) -> dict[str, int]:
    """Size in bytes of every image file, by its name; raises UserError for the first that is missing."""
    listings: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}
    for still in stills:
        inside, _, base = still.file_name.rpartition("/")
        if inside not in listings:
            listings[inside] = list_files(folder / inside)
        if base not in listings[inside]:
            where = f"{annotations}: image {still.id}: file_name"
            raise UserError(f"{where} is '{still.file_name}', expected a file in {folder}, found none")
        sizes[still.file_name] = listings[inside][base]
    return sizes
