"""Writes a synthetic split as image files and JSON, in the layout of YouTube-VIS 2019 or of COCO."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from vislab.data.synthetic.ground_truth import Record, document, still_record, stills_document, video_record
from vislab.data.synthetic.videos import SyntheticVideos
from vislab.errors import UserError


def export(dataset: SyntheticVideos, folder: str | Path, *, progress: bool = True, lossless: bool = False) -> Path:
    """Writes folder/<split>/JPEGImages/<video>/<frame>.jpg and folder/<split>.json; returns the path of the latter.

    Frames are JPEG of quality 95, or PNG (.png) if `lossless`. Everything is written under a temporary name in `folder`
    first, so that what is there is complete. Raises UserError if the split is there already, or `folder` is a file.
    """
    names = (dataset.split, f"{dataset.split}.json")
    with _published(dataset, Path(folder), names) as partial:
        _write_split(dataset, partial, ".png" if lossless else ".jpg", progress)
    return Path(folder) / names[1]


def export_images(
    dataset: SyntheticVideos, folder: str | Path, *, progress: bool = True, lossless: bool = False
) -> Path:
    """Writes videos of one frame as COCO has them: folder/<split>/<name>.jpg and, returned, its annotation file
    folder/annotations/instances_<split>.json. Raises UserError as `export` does, and for longer videos."""
    longest = max(dataset.info(index).length for index in range(len(dataset)))
    if longest > 1:
        raise UserError(f"{dataset.name} has videos of up to {longest} frames; COCO's layout holds images: length=1")
    names = (dataset.split, f"annotations/instances_{dataset.split}.json")
    suffix = ".png" if lossless else ".jpg"
    with _published(dataset, Path(folder), names) as partial:
        (partial / dataset.split).mkdir()
        steps = track(range(len(dataset)), f"{dataset.name} {dataset.split}", disable=not progress)
        records = [_write_still(dataset, index, partial / dataset.split, suffix) for index in steps]
        (partial / "annotations").mkdir()
        (partial / names[1]).write_text(json.dumps(stills_document(dataset, records), separators=(",", ":")), "utf-8")
    return Path(folder) / names[1]


@contextlib.contextmanager
def _published(dataset: SyntheticVideos, folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A temporary folder, from which files and folders of these names are moved into `folder` at the end."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; expected a folder")
    for target in (folder / name for name in names):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} exists already; expected a folder without a '{dataset.split}' split")
    partial = folder / f".{dataset.split}-{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        yield partial
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            os.replace(partial / name, folder / name)
    finally:
        shutil.rmtree(partial)


def _write_still(dataset: SyntheticVideos, index: int, images: Path, suffix: str) -> Record:
    image, annotations = still_record(dataset, index, suffix)
    _save(dataset.frames(index, [0])[0], images / image["file_name"])
    return image, annotations


def _write_split(dataset: SyntheticVideos, folder: Path, suffix: str, progress: bool) -> None:
    videos = range(len(dataset))
    steps = track(videos, f"{dataset.name} {dataset.split}", disable=not progress)
    records = [_write_video(dataset, index, folder / dataset.split / "JPEGImages", suffix) for index in steps]
    text = json.dumps(document(dataset, records), separators=(",", ":"))
    (folder / f"{dataset.split}.json").write_text(text, encoding="utf-8")


def _write_video(dataset: SyntheticVideos, index: int, images: Path, suffix: str) -> Record:
    video, instances = video_record(dataset, index, suffix)
    (images / dataset.info(index).name).mkdir(parents=True)
    for frame, name in enumerate(video["file_names"]):
        _save(dataset.frames(index, [frame])[0], images / name)
    return video, instances


def _save(pixels: np.ndarray, path: Path) -> None:
    image = Image.fromarray(pixels)
    if path.suffix == ".jpg":
        image.save(path, quality=95, subsampling=0)
    else:
        image.save(path)
