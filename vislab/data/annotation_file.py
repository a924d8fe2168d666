"""YouTube-VIS annotation files: strict reading. What comes out of `read_annotations` needs no further checks.

The format (youtubevos/cocoapi): JSON with "videos" (id, width, height, length, file_names), "categories" (id, name) and
"annotations" (id, video_id, category_id, iscrowd, and per frame, null where the instance is not visible: segmentations,
bboxes [x, y, w, h], areas). Frame files are looked for elsewhere: here a video is only its entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vislab import rle
from vislab.data.dataset import Category, VideoInfo
from vislab.data.json_file import (
    MAX_ID,
    Entry,
    identified,
    is_area,
    is_box,
    known,
    load_json,
    read_categories,
    read_crowd,
)
from vislab.errors import UserError

__all__ = ["AnnotationFile", "Track", "Video", "read_annotations"]

_MAX_SIDE = 16_384  # pixels; keeps every pixel count below 2^32, which the RLE format needs


@dataclass(frozen=True)
class Track:
    """One instance in one video. label: 0..K-1. masks: one checked RLE per frame, None where it is not visible.

    areas: (T,) int64, pixels of the masks. entry: the JSON object, with `segmentations` replaced by `masks`.
    """

    id: int
    label: int
    iscrowd: bool
    masks: list[rle.RLE | None]
    areas: np.ndarray
    entry: dict[str, Any]


@dataclass(frozen=True)
class Video:
    """One video and its instances. file_names: relative to the image folder. entry: the JSON object."""

    info: VideoInfo
    file_names: tuple[str, ...]
    entry: dict[str, Any]
    tracks: list[Track] = field(default_factory=list)


@dataclass(frozen=True)
class AnnotationFile:
    """A checked annotation file. digest: SHA-256 of its bytes. labelled: it has annotations."""

    path: Path
    digest: str
    categories: tuple[Category, ...]
    category_entries: list[dict[str, Any]]
    videos: tuple[Video, ...]

    @property
    def labelled(self) -> bool:
        return any(video.tracks for video in self.videos)

    @property
    def names(self) -> list[str]:
        return [video.info.name for video in self.videos]


def read_annotations(path: Path, *, labels_required: bool = True) -> AnnotationFile:
    """Reads and checks a whole annotation file.

    labels_required: False accepts a file without annotations, as the public validation sets have. Raises UserError,
    which names the file, the entry by its id, and the field, with what was found and what was expected.
    """
    document, digest, has_nan = load_json(path)
    top = Entry(document, str(path))
    category_entries = top.array("categories")
    categories = read_categories(category_entries, path)
    videos = _videos(top.array("videos"), path)
    annotations = document.get("annotations")
    if labels_required or annotations is not None:
        _add_tracks(top.array("annotations"), videos, categories, path)
    if has_nan:
        raise UserError(f"{path}: holds NaN or Infinity, expected finite numbers only")
    result = AnnotationFile(path, digest, categories, category_entries, tuple(videos.values()))
    if labels_required and not result.labelled:
        raise UserError(f"{path}: annotations is an empty array, expected at least one annotation")
    return result


def _videos(entries: list, path: Path) -> dict[int, Video]:
    if not entries:
        raise UserError(f"{path}: videos is an empty array, expected at least one video")
    return {video_id: _video(entry, video_id) for video_id, entry in identified(entries, path, "videos", "video")}


def _video(entry: Entry, video_id: int) -> Video:
    names = entry.array("file_names")
    if not names:
        raise entry.fault("file_names", names, "at least one frame")
    for t, name in enumerate(names):
        if not isinstance(name, str) or not name or PurePosixPath(name).is_absolute() or ".." in name.split("/"):
            raise entry.fault(f"file_names[{t}]", name, "a path inside the image folder")
    length = entry.integer("length", 1, MAX_ID)
    if length != len(names):
        raise UserError(f"{entry.where}: length is {length}, expected {len(names)}, the number of file_names")
    height, width = entry.integer("height", 1, _MAX_SIDE), entry.integer("width", 1, _MAX_SIDE)
    folder = str(PurePosixPath(names[0]).parent)
    name = str(video_id) if folder == "." else folder
    return Video(VideoInfo(video_id, name, height, width, length), tuple(names), entry.values)


def _add_tracks(entries: list, videos: dict[int, Video], categories: Sequence[Category], path: Path) -> None:
    """Appends every annotation to its video, once the RLEs of all are checked together (fast for 1e5 masks)."""
    labels = {category.id: label for label, category in enumerate(categories)}
    owners: list[Video] = []
    tracks: list[Track] = []
    for track_id, entry in identified(entries, path, "annotations", "annotation"):
        owners.append(known(entry, "video_id", "videos", videos))
        tracks.append(_track(entry, track_id, owners[-1].info, known(entry, "category_id", "categories", labels)))
    _check_masks(tracks, path)
    for video, track in zip(owners, tracks, strict=True):
        video.tracks.append(track)


def _track(entry: Entry, track_id: int, video: VideoInfo, label: int) -> Track:
    iscrowd = read_crowd(entry)
    masks = [
        None
        if segmentation is None
        else rle.compress(segmentation, video.height, video.width, f"{entry.where}: segmentations[{t}]")
        for t, segmentation in enumerate(entry.array("segmentations", video.length))
    ]
    for name, valid, expected in (
        ("bboxes", is_box, "null or [x, y, width, height] of finite numbers >= 0"),
        ("areas", is_area, "null or a finite number >= 0"),
        ("visible_fractions", _is_fraction, "null or a number from 0 to 1"),
    ):
        if name in entry.values:
            _check_per_frame(entry, name, video.length, valid, expected)
    entry.values["segmentations"] = masks
    return Track(track_id, label, iscrowd, masks, np.zeros(video.length, np.int64), entry.values)


def _check_per_frame(entry: Entry, name: str, length: int, valid: Callable[[Any], bool], expected: str) -> None:
    for t, value in enumerate(entry.array(name, length)):
        if value is not None and not valid(value):
            raise entry.fault(f"{name}[{t}]", value, expected)


def _is_fraction(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def _check_masks(tracks: Sequence[Track], path: Path) -> None:
    """Checks the counts of all masks and fills in their areas."""
    places = [(track, t) for track in tracks for t, mask in enumerate(track.masks) if mask is not None]
    masks = [track.masks[t] for track, t in places]

    def where(i: int) -> str:
        track, t = places[i]
        return f"{path}: annotation {track.id}: segmentations[{t}]"

    areas = rle.validate_many(masks, where)  # type: ignore[arg-type]  # None is filtered out above
    for (track, t), area in zip(places, areas, strict=True):
        track.areas[t] = area
