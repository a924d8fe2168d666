"""`vislab data check`: reads everything of a data set once and says what is in it.

What is wrong raises UserError; what is odd but usable (a stored area that differs from the mask's, an instance that is
never visible) is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from vislab import rle
from vislab.data.annotation_file import AnnotationFile, Track, Video, read_annotations
from vislab.data.coco import image_sizes, open_still
from vislab.data.coco_file import CocoFile, read_coco
from vislab.data.dataset import Category
from vislab.data.layout import find_annotations, find_frames, find_stills, holds_images
from vislab.data.youtube_vis import frame_sizes, open_frame

__all__ = ["Summary", "check"]

_WARNINGS_SHOWN = 10
_AREA_SLACK = 64  # pixels by which the area of a polygon may differ from that of its mask

Item = TypeVar("Item")


@dataclass(frozen=True)
class Summary:
    """What a data set holds, added up over its annotation files.

    files: (path, videos, annotations) of each file. null_frames: frames of an instance in which it is not visible.
    categories: annotations by name, in the order of the file. lengths: (min, mean, max) frames per video.
    sizes: videos by (width, height), most frequent first. warnings: one sentence each. noun: "images" where every video
    is one.
    """

    files: tuple[tuple[str, int, int], ...]
    videos: int
    frames: int
    annotations: int
    masks: int
    null_frames: int
    crowd: int
    categories: dict[str, int]
    lengths: tuple[int, float, int]
    sizes: dict[tuple[int, int], int]
    warnings: tuple[str, ...]
    noun: str = "videos"

    def lines(self) -> list[str]:
        """The summary as plain text, one line per fact."""
        low, mean, high = self.lengths
        sizes = ", ".join(f"{width}x{height} ({count})" for (width, height), count in self.sizes.items())
        shown = self.warnings[:_WARNINGS_SHOWN]
        hidden = len(self.warnings) - len(shown)
        frames = [f"frames       {self.frames} (per video: {low} to {high}, mean {mean:.1f})"]
        masks = [f"masks        {self.masks} ({self.null_frames} null frames)"]
        if self.noun == "images":
            frames, masks = [], []
        return [
            *(
                f"file         {name}: {videos} {self.noun}, {tracks} annotations"
                for name, videos, tracks in self.files
            ),
            f"{self.noun:12} {self.videos}",
            *frames,
            f"sizes        {sizes}",
            f"annotations  {self.annotations} ({self.crowd} crowd)",
            *masks,
            f"categories   {len(self.categories)}",
            *(f"  {name}: {count}" for name, count in self.categories.items()),
            *(f"warning      {warning}" for warning in shown),
            *([f"warning      and {hidden} more"] if hidden else []),
        ]


def check(path: str | Path) -> Summary:
    """Checks a folder or an annotation file completely: annotations, masks, and that every frame opens at its size.

    Raises UserError for the first fault, naming file, entry and field.
    """
    files = find_annotations(Path(path))
    if holds_images(path):
        stills = [read_coco(file, labels_required=split == "train") for split, file in files.items()]
        return _summary_of_images(stills, [warning for file in stills for warning in _check_images(file)])
    read = [read_annotations(file, labels_required=split == "train") for split, file in files.items()]
    warnings: list[str] = []
    for file in read:
        images = find_frames(file.path)
        frame_sizes(file.path, images, file.videos)
        _open_all(partial(_open_frames, images), file.videos)
        warnings += _warnings(file)
    return _summary(read, warnings)


def _open_all(open_one: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Decodes images; Pillow releases the interpreter lock meanwhile, so threads help."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(open_one, items):  # one by one: nothing is kept
            pass


def _open_frames(images: Path, video: Video) -> None:
    for t in range(video.info.length):
        open_frame(images, video, t)


def _warnings(file: AnnotationFile) -> Iterator[str]:
    for video in file.videos:
        for track in video.tracks:
            where = f"{file.path}: annotation {track.id}"
            if not track.areas.any():
                yield f"{where}: segmentations has no visible pixel in any frame"
            yield from _wrong_areas(track, where)


def _wrong_areas(track: Track, where: str) -> Iterator[str]:
    for t, stored in enumerate(track.entry.get("areas", [])):
        counted = int(track.areas[t])
        if abs((stored or 0) - counted) > max(1, 0.01 * counted):
            yield f"{where}: areas[{t}] is {stored}, but the mask has {counted} pixels"


def _check_images(file: CocoFile) -> Iterator[str]:
    """Opens every image, draws every mask; yields the warnings."""
    folder = find_stills(file.path)
    image_sizes(file.path, folder, file.images)
    _open_all(lambda still: open_still(folder, still).close(), file.images)
    for row in range(len(file.ids)):
        stored, counted = float(file.areas[row]), rle.area(file.mask(row))
        if not counted:
            yield f"{file.where(row)} has no pixel"
        elif abs(stored - counted) > max(_AREA_SLACK, 0.5 * counted):  # false where the file has no area
            yield f"{file.path}: annotation {file.ids[row]}: area is {stored:g}, but the mask has {counted} pixels"


def _summary(files: Sequence[AnnotationFile], warnings: Iterable[str]) -> Summary:
    videos = [video for file in files for video in file.videos]
    tracks = [track for video in videos for track in video.tracks]
    masks = sum(mask is not None for track in tracks for mask in track.masks)
    lengths = np.array([video.info.length for video in videos])
    labels = [(file.categories, [track.label for video in file.videos for track in video.tracks]) for file in files]
    return Summary(
        files=tuple((str(f.path), len(f.videos), sum(len(video.tracks) for video in f.videos)) for f in files),
        videos=len(videos),
        frames=int(lengths.sum()),
        annotations=len(tracks),
        masks=masks,
        null_frames=sum(len(track.masks) for track in tracks) - masks,
        crowd=sum(track.iscrowd for track in tracks),
        categories=_counts(labels),
        lengths=(int(lengths.min()), float(lengths.mean()), int(lengths.max())),
        sizes=_sizes((video.info.width, video.info.height) for video in videos),
        warnings=tuple(warnings),
    )


def _summary_of_images(files: Sequence[CocoFile], warnings: Iterable[str]) -> Summary:
    images = [still for file in files for still in file.images]
    annotations = sum(len(file.ids) for file in files)
    return Summary(
        files=tuple((str(file.path), len(file.images), len(file.ids)) for file in files),
        videos=len(images),
        frames=len(images),
        annotations=annotations,
        masks=annotations,
        null_frames=0,
        crowd=sum(int(file.iscrowd.sum()) for file in files),
        categories=_counts([(file.categories, file.labels.tolist()) for file in files]),
        lengths=(1, 1.0, 1),
        sizes=_sizes((still.width, still.height) for still in images),
        warnings=tuple(warnings),
        noun="images",
    )


def _counts(labels: Iterable[tuple[Sequence[Category], Sequence[int]]]) -> dict[str, int]:
    """Annotations by the name of their category, from the categories and the labels of each file."""
    counts: Counter[str] = Counter()
    for categories, positions in labels:
        counts.update({category.name: 0 for category in categories})
        counts.update(categories[position].name for position in positions)
    return dict(counts)


def _sizes(sizes: Iterable[tuple[int, int]]) -> dict[tuple[int, int], int]:
    return dict(Counter(sizes).most_common())
