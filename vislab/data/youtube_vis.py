"""Reader of data sets in the YouTube-VIS folder layouts (2019, 2021, flat), masks and frames read on demand.

Shape letters: T frames asked for, N instances, H W image size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vislab import rle
from vislab.data import splits
from vislab.data.annotation_file import AnnotationFile, Track, Video, read_annotations
from vislab.data.dataset import Category, FrameAnnotations, Split, VideoInfo
from vislab.data.image_files import list_files, open_image
from vislab.data.layout import choose_part, find_frames, parts_of
from vislab.data.transforms import mask_boxes
from vislab.errors import UserError

__all__ = ["YouTubeVIS", "frame_sizes", "open_frame"]


class YouTubeVIS:
    """Videos of a folder, or an annotation file, in a YouTube-VIS layout (a `VideoDataset`).

    path, one of
      folder with train/JPEGImages and train.json (2019) or train/instances.json (2021), the same for valid;
      folder with JPEGImages and instances.json (flat);
      annotation file, with JPEGImages beside it (or, for train.json, in train/).
    Where the validation set has no labels (the public ones have none), or there is one labelled set only, `split` means
    the parts of a division of that set by video name (vislab.data.splits): "halves", or "ninety-ten" from 200 videos
    on. A suffix names the division: "PATH+ninety-ten", "PATH+halves", "PATH+whole" (both parts are the whole set).
    num_videos: keep only the first so many.

    Raises UserError for whatever is wrong with the annotations or missing on disk; images are opened when asked for.
    """

    def __init__(self, path: str | Path, split: Split = "train", *, num_videos: int | None = None) -> None:
        if num_videos is not None and num_videos < 1:
            raise UserError(f"num_videos is {num_videos}, expected at least 1")
        annotations, chosen = choose_part(path, split, _read)
        self._videos = tuple(annotations.videos[position] for position in chosen[:num_videos])
        self._images = find_frames(annotations.path)
        self._frame_bytes = frame_sizes(annotations.path, self._images, self._videos)
        self._annotations_digest = annotations.digest
        self._category_entries = annotations.category_entries
        self.name = parts_of(path)[0].resolve().name
        self.categories: tuple[Category, ...] = annotations.categories

    def __len__(self) -> int:
        return len(self._videos)

    def info(self, index: int) -> VideoInfo:
        return self._videos[index].info

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB. Raises UserError for a file that is no image or has another size than its video."""
        video = self._videos[index]
        frames = np.empty((len(frame_indices), video.info.height, video.info.width, 3), np.uint8)
        for frame, t in zip(frames, frame_indices, strict=True):
            frame[:] = np.asarray(open_frame(self._images, video, t).convert("RGB"))
        return frames

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        """The instances that are present in at least one of the frames asked for, masks decoded from the file's RLE."""
        video = self._videos[index]
        chosen = list(frame_indices)
        tracks = [track for track in video.tracks if track.areas[chosen].any()]
        masks = np.zeros((len(tracks), len(chosen), video.info.height, video.info.width), bool)
        for n, track in enumerate(tracks):
            for position, t in enumerate(chosen):
                mask = track.masks[t]
                if mask is not None:
                    masks[n, position] = rle.decode_checked(mask)
        present = np.array([track.areas[chosen] > 0 for track in tracks], bool).reshape(masks.shape[:2])
        fractions = np.array([_visible_fractions(track) for track in tracks], np.float32)
        fractions = fractions.reshape(len(tracks), video.info.length)[:, chosen]
        return FrameAnnotations(
            labels=np.array([track.label for track in tracks], np.int64),
            track_ids=np.array([track.id for track in tracks], np.int64),
            iscrowd=np.array([track.iscrowd for track in tracks], bool),
            masks=masks,
            boxes=mask_boxes(masks),
            present=present,
            visible_fraction=np.where(present, fractions, 0).astype(np.float32),
        )

    def ground_truth(self) -> dict[str, Any]:
        """The split as YouTube-VIS JSON. Segmentations are compressed RLEs; absent bboxes and areas are filled in."""
        return {
            "videos": [dict(video.entry) for video in self._videos],
            "categories": [dict(entry) for entry in self._category_entries],
            "annotations": [_complete_entry(track) for video in self._videos for track in video.tracks],
        }

    def fingerprint(self) -> str:
        """SHA-256 of the annotation file, the names of the split's videos, and each frame's name and size in bytes.

        The frames' content is not read: that would take minutes on a real set.
        """
        videos = splits.names_hash(f"{video.info.id} {video.info.name}" for video in self._videos)
        parts = [self._annotations_digest, videos]
        parts += [f"{name} {size}" for name, size in sorted(self._frame_bytes.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _visible_fractions(track: Track) -> list[float]:
    fractions = track.entry.get("visible_fractions")
    if fractions is None:
        return [1.0] * len(track.masks)
    return [1.0 if fraction is None else fraction for fraction in fractions]


def _complete_entry(track: Track) -> dict[str, Any]:
    entry = dict(track.entry)
    if "areas" not in entry:
        entry["areas"] = [None if mask is None else int(a) for mask, a in zip(track.masks, track.areas, strict=True)]
    if "bboxes" not in entry:
        entry["bboxes"] = [None if mask is None else list(rle.box(mask)) for mask in track.masks]
    entry.setdefault("iscrowd", int(track.iscrowd))
    return entry


def _read(path: Path, labels_required: bool) -> AnnotationFile:
    return read_annotations(path, labels_required=labels_required)


def open_frame(images: Path, video: Video, t: int) -> Image.Image:
    """Frame t of a video, decoded. Raises UserError if it is no readable image of the video's size."""
    path = images / video.file_names[t]
    return open_image(path, f"{path}: video {video.info.id}: file_names[{t}]", video.info.width, video.info.height)


def frame_sizes(annotations: Path, images: Path, videos: Sequence[Video]) -> dict[str, int]:
    """Size in bytes of every frame file, by its name; raises UserError for the first that is missing.

    Lists each folder once instead of asking for each file: tens of thousands of frames take about a second.
    """
    listings: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}
    for video in videos:
        for t, name in enumerate(video.file_names):
            folder, _, base = name.rpartition("/")
            if folder not in listings:
                listings[folder] = list_files(images / folder)
            if base not in listings[folder]:
                where = f"{annotations}: video {video.info.id}: file_names[{t}]"
                raise UserError(f"{where} is '{name}', expected a file in {images}, found none")
            sizes[name] = listings[folder][base]
    return sizes
