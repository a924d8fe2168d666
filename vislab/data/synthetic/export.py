"""Writes a synthetic split as image files and JSON, in the layout of YouTube-VIS 2019."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from PIL import Image
from rich.progress import track

from vislab.data.synthetic.ground_truth import Record, document, video_record
from vislab.data.synthetic.videos import SyntheticVideos
from vislab.errors import UserError


def export(dataset: SyntheticVideos, folder: str | Path, *, progress: bool = True, lossless: bool = False) -> Path:
    """Writes folder/<split>/JPEGImages/<video>/<frame>.jpg and folder/<split>.json; returns the path of the latter.

    Frames are JPEG of quality 95, or PNG (.png) if `lossless`. Everything is written under a temporary name in `folder`
    first, so that what is there is complete. Raises UserError if the split is there already, or `folder` is a file.
    """
    folder = Path(folder)
    images, annotations = folder / dataset.split, folder / f"{dataset.split}.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; expected a folder")
    for target in (images, annotations):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} exists already; expected a folder without a '{dataset.split}' split")
    partial = folder / f".{dataset.split}-{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        _write_split(dataset, partial, ".png" if lossless else ".jpg", progress)
        os.replace(partial / dataset.split, images)
        os.replace(partial / annotations.name, annotations)
    finally:
        shutil.rmtree(partial)
    return annotations


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
        image = Image.fromarray(dataset.frames(index, [frame])[0])
        if suffix == ".jpg":
            image.save(images / name, quality=95, subsampling=0)
        else:
            image.save(images / name)
    return video, instances
