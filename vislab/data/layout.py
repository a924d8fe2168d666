"""Where a data set's files are, which of the two formats they have, and which part of them a split means.

Layouts of videos (YouTube-VIS): train.json with train/JPEGImages (2019), train/instances.json with train/JPEGImages
(2021), instances.json with JPEGImages (flat). Layout of images (COCO): annotations/instances_NAME.json with the images
in NAME/ or images/NAME/, where NAME is train..., val... or valid....
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from vislab.data import splits
from vislab.data.dataset import Split
from vislab.errors import UserError

__all__ = ["AnnotatedFile", "choose_part", "find_annotations", "find_frames", "find_stills", "holds_images", "parts_of"]


class AnnotatedFile(Protocol):
    """An annotation file as read. names: of its videos or images."""

    @property
    def path(self) -> Path: ...

    @property
    def labelled(self) -> bool: ...

    @property
    def names(self) -> list[str]: ...


File = TypeVar("File", bound=AnnotatedFile)


def find_annotations(path: Path) -> dict[str, Path]:
    """The annotation files of a data set by split, "train" or "valid"; a single file of any name counts as "train".

    Raises UserError if there is none or if two could be meant.
    """
    if path.is_file():
        return {"train": path}
    if not path.is_dir():
        raise UserError(f"data set '{path}' does not exist; expected a folder, an annotation file or 'synthetic-...'")
    candidates = {
        "train": ["train.json", "train/instances.json", "instances.json", "annotations/instances_train*.json"],
        "valid": ["valid.json", "valid/instances.json", "annotations/instances_val*.json"],
    }
    found = {split: list(_matching(path, patterns)) for split, patterns in candidates.items()}
    for files in found.values():
        if len(files) > 1:
            raise UserError(f"{path}: found both {files[0]} and {files[1]}, expected one; name the file that is meant")
    if not any(found.values()):
        tried = ", ".join(pattern for patterns in candidates.values() for pattern in patterns)
        raise UserError(f"{path}: no annotation file found; expected one of {tried}")
    return {split: files[0] for split, files in found.items() if files}


def _matching(folder: Path, patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(file for file in folder.glob(pattern) if file.is_file())


def holds_images(path: str | Path) -> bool:
    """Whether a data set's annotations are of images, as COCO's, instead of videos: they have "images", no "videos".

    Looks for the keys' text, as parsing a large file takes a minute. Raises UserError if there is no annotation file.
    """
    keys = set()
    file = next(iter(find_annotations(parts_of(path)[0]).values()))
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for match in re.finditer(rb'"(images|videos)"\s*:', content):
                keys.add(match[1])
                if b"videos" in keys:
                    return False
    except (OSError, ValueError):  # an empty file cannot be mapped; whoever reads it says what is wrong with it
        return False
    return b"images" in keys


def find_frames(annotations: Path) -> Path:
    """The folder JPEGImages beside an annotation file, or in the folder named like it (train/ for train.json)."""
    return _first_folder(annotations, "frames", _beside(annotations))


def find_stills(annotations: Path) -> Path:
    """The folder with the images of a COCO file: NAME or images/NAME for annotations/instances_NAME.json, or images or
    JPEGImages beside the file, or the folder that it lies in."""
    name, root = annotations.stem.removeprefix("instances_"), annotations.parent.parent
    named = [root / name, root / "images" / name] if name != annotations.stem else []
    around = [annotations.parent / "images", *_beside(annotations), annotations.parent]
    return _first_folder(annotations, "images", [*named, *around])


def _beside(annotations: Path) -> list[Path]:
    return [annotations.parent / "JPEGImages", annotations.with_suffix("") / "JPEGImages"]


def _first_folder(annotations: Path, what: str, candidates: list[Path]) -> Path:
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise UserError(f"{annotations}: folder with the {what} not found; expected {' or '.join(map(str, candidates))}")


def parts_of(path: str | Path) -> tuple[Path, splits.Division | None]:
    """Takes "+halves" and the like off a path, unless a file or folder really has that name."""
    folder, plus, name = str(path).rpartition("+")
    if Path(path).exists() or not plus or not Path(folder).exists():
        return Path(path), None
    return Path(folder), splits.division_named(name)


def choose_part(path: str | Path, split: Split, read: Callable[[Path, bool], File]) -> tuple[File, list[int]]:
    """Where a split comes from: a labelled file of its own, or a part of the one labelled file; and the positions of
    its videos, or images, there.

    read: reads a file; its second argument says whether it must have annotations. Raises UserError if a single video
    would have to be divided.
    """
    folder, division = parts_of(path)
    files = find_annotations(folder)
    if division is None and "train" in files and "valid" in files:
        valid = read(files["valid"], False)
        if valid.labelled:
            own = valid if split == "valid" else read(files["train"], True)
            return own, list(range(len(own.names)))
    only = read(files["train"] if "train" in files else files["valid"], True)
    names = only.names
    divided = splits.divide(names, division or splits.default_division(len(set(names))))
    chosen = set(getattr(divided, split))
    if not chosen:
        raise UserError(
            f"{only.path}: videos has {len(names)} entry, expected at least 2 to divide into train and valid "
            f"(or take the whole set for both: '{folder}+whole')"
        )
    return only, [position for position, name in enumerate(names) if name in chosen]
