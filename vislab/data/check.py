"""`vislab data check`: reads everything of a data set once and says what is in it.

What is wrong raises UserError; what is odd but usable (a stored area that differs from the mask's, an instance that is
never visible) is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vislab.data.annotation_file import AnnotationFile, Track, Video, read_annotations
from vislab.data.youtube_vis import find_annotations, find_images, frame_sizes, open_frame

__all__ = ["Summary", "check"]

_WARNINGS_SHOWN = 10


@dataclass(frozen=True)
class Summary:
    """What a data set holds, added up over its annotation files.

    files: (path, videos, annotations) of each file. null_frames: frames of an instance in which it is not visible.
    categories: annotations by name, in the order of the file. lengths: (min, mean, max) frames per video.
    sizes: videos by (width, height), most frequent first. warnings: one sentence each.
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

    def lines(self) -> list[str]:
        """The summary as plain text, one line per fact."""
        low, mean, high = self.lengths
        sizes = ", ".join(f"{width}x{height} ({count})" for (width, height), count in self.sizes.items())
        shown = self.warnings[:_WARNINGS_SHOWN]
        hidden = len(self.warnings) - len(shown)
        return [
            *(f"file         {name}: {videos} videos, {tracks} annotations" for name, videos, tracks in self.files),
            f"videos       {self.videos}",
            f"frames       {self.frames} (per video: {low} to {high}, mean {mean:.1f})",
            f"sizes        {sizes}",
            f"annotations  {self.annotations} ({self.crowd} crowd)",
            f"masks        {self.masks} ({self.null_frames} null frames)",
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
    read = [read_annotations(file, labels_required=split == "train") for split, file in files.items()]
    warnings: list[str] = []
    for file in read:
        images = find_images(file.path)
        frame_sizes(file.path, images, file.videos)
        _open_all_frames(images, file.videos)
        warnings += _warnings(file)
    return _summary(read, warnings)


def _open_all_frames(images: Path, videos: Sequence[Video]) -> None:
    """Decodes every frame; Pillow releases the interpreter lock meanwhile, so threads help."""

    def open_frames(video: Video) -> None:
        for t in range(video.info.length):
            open_frame(images, video, t)

    with ThreadPoolExecutor() as pool:
        list(pool.map(open_frames, videos))


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


def _summary(files: Sequence[AnnotationFile], warnings: Iterable[str]) -> Summary:
    videos = [video for file in files for video in file.videos]
    tracks = [track for video in videos for track in video.tracks]
    masks = sum(mask is not None for track in tracks for mask in track.masks)
    lengths = np.array([video.info.length for video in videos])
    categories: Counter[str] = Counter()
    for file in files:
        categories.update({category.name: 0 for category in file.categories})
        categories.update(file.categories[track.label].name for video in file.videos for track in video.tracks)
    sizes = Counter((video.info.width, video.info.height) for video in videos)
    return Summary(
        files=tuple((str(f.path), len(f.videos), sum(len(video.tracks) for video in f.videos)) for f in files),
        videos=len(videos),
        frames=int(lengths.sum()),
        annotations=len(tracks),
        masks=masks,
        null_frames=sum(len(track.masks) for track in tracks) - masks,
        crowd=sum(track.iscrowd for track in tracks),
        categories=dict(categories),
        lengths=(int(lengths.min()), float(lengths.mean()), int(lengths.max())),
        sizes=dict(sizes.most_common()),
        warnings=tuple(warnings),
    )
