"""COCO annotation files (instances_train2017.json and the like): strict reading into columns.

The format (cocodataset.org, "Object Detection"): JSON with "images" (id, file_name, height, width), "categories" (id,
name; the ids of COCO's 80 categories run to 90, with gaps) and "annotations" (id, image_id, category_id, iscrowd, area,
bbox, segmentation: polygons, or an RLE for crowds). A file of 118,287 images holds 860,001 annotations and 45 million
coordinates, so polygons are packed while the file is parsed and drawn only when they are asked for.

Shape letters: I images, A annotations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from vislab import rle
from vislab.data.dataset import Category
from vislab.data.json_file import Entry, identified, is_area, is_box, known, load_json, read_categories, read_crowd
from vislab.errors import UserError

__all__ = ["CocoFile", "Still", "read_coco"]

Polygons = tuple[np.ndarray, ...]  # of x, y, x, y, ..., float64 pixels
Segmentation = Polygons | rle.RLE

_CHUNK = 20_000  # annotations whose coordinates are checked at once
_SHORT = 2**20  # pixels; vislab.rle draws outlines of this length without complaint


class Still(NamedTuple):
    """One image. file_name: relative to the image folder. height, width in pixels."""

    id: int
    file_name: str
    height: int
    width: int

    @property
    def name(self) -> str:
        """The file's name without its suffix: "000000000139"."""
        return str(PurePosixPath(self.file_name).with_suffix(""))


@dataclass(frozen=True)
class CocoFile:
    """A checked COCO file. digest: SHA-256 of its bytes. Annotations stand in the order of their images.

    image: (A,) int64, position of each annotation's image. ids: (A,) int64. labels: (A,) int64 in 0..K-1. iscrowd: (A,)
    bool. areas: (A,) float64 pixels as the file has them, NaN where it has none. segmentations: A of them, checked.
    """

    path: Path
    digest: str
    categories: tuple[Category, ...]
    category_entries: list[dict[str, Any]]
    images: tuple[Still, ...]
    image: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    iscrowd: np.ndarray
    areas: np.ndarray
    segmentations: list[Segmentation]

    @property
    def labelled(self) -> bool:
        return len(self.ids) > 0

    @property
    def names(self) -> list[str]:
        return [still.name for still in self.images]

    def rows(self, position: int) -> slice:
        """The annotations of an image, as rows of the columns."""
        return slice(int(self._starts[position]), int(self._starts[position + 1]))

    def mask(self, row: int) -> rle.RLE:
        """An annotation's mask; polygons are drawn as pycocotools does."""
        found = self.segmentations[row]
        if isinstance(found, dict):
            return found
        still = self.images[int(self.image[row])]
        return rle.normalise(_plain(found), still.height, still.width, self.where(row))

    def where(self, row: int) -> str:
        """What begins a message about an annotation's mask."""
        return f"{self.path}: annotation {self.ids[row]}: segmentation"

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.searchsorted(self.image, np.arange(len(self.images) + 1))


def read_coco(path: Path, *, labels_required: bool = True) -> CocoFile:
    """Reads and checks a whole file; see `read_annotations` of annotation_file.py, which does so for videos."""
    document, digest, has_nan = load_json(path, _pack)
    top = Entry(document, str(path))
    category_entries = top.array("categories")
    categories = read_categories(category_entries, path)
    images = _images(top.array("images"), path)
    entries = top.array("annotations") if labels_required or document.get("annotations") is not None else []
    columns = _columns(entries, images, categories, path)
    if has_nan:
        raise UserError(f"{path}: holds NaN or Infinity, expected finite numbers only")
    if labels_required and not entries:
        raise UserError(f"{path}: annotations is an empty array, expected at least one annotation")
    result = CocoFile(path, digest, categories, category_entries, tuple(images.values()), **columns)
    _check_segmentations(result)
    return result


def _pack(entry: dict[str, Any]) -> None:
    """Replaces well-formed polygons of an annotation by arrays; whatever else stands there is left for the checks."""
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return
        if not set(map(type, polygon)) <= {int, float}:
            return
    try:
        entry["segmentation"] = tuple(np.array(polygon, np.float64) for polygon in polygons)
    except OverflowError:  # an integer beyond every float
        return


def _plain(polygons: Polygons) -> list[list[float]]:
    return [polygon.tolist() for polygon in polygons]


def _images(entries: list, path: Path) -> dict[int, Still]:
    if not entries:
        raise UserError(f"{path}: images is an empty array, expected at least one image")
    images: dict[int, Still] = {}
    for image_id, entry in identified(entries, path, "images", "image"):
        name = entry.text("file_name")
        if PurePosixPath(name).is_absolute() or ".." in name.split("/"):
            raise entry.fault("file_name", name, "a path inside the image folder")
        height, width = entry.integer("height", 1, rle.MAX_SIDE), entry.integer("width", 1, rle.MAX_SIDE)
        images[image_id] = Still(image_id, name, height, width)
    return images


def _columns(entries: list, images: dict[int, Still], categories: Sequence[Category], path: Path) -> dict[str, Any]:
    """The annotations as columns of `CocoFile`; segmentations are not checked yet."""
    labels = {category.id: label for label, category in enumerate(categories)}
    places = {image_id: position for position, image_id in enumerate(images)}
    rows = [
        (
            known(entry, "image_id", "images", places),
            annotation_id,
            known(entry, "category_id", "categories", labels),
            read_crowd(entry),
            _area(entry),
            entry.field("segmentation"),
        )
        for annotation_id, entry in _annotations(entries, path)
    ]
    rows.sort(key=lambda row: row[0])  # stable: the order of the file within an image
    image, ids, label, iscrowd, areas, segmentations = zip(*rows, strict=True) if rows else [()] * 6
    return {
        "image": np.array(image, np.int64),
        "ids": np.array(ids, np.int64),
        "labels": np.array(label, np.int64),
        "iscrowd": np.array(iscrowd, bool),
        "areas": np.array(areas, np.float64),
        "segmentations": list(segmentations),
    }


def _annotations(entries: list, path: Path) -> Iterator[tuple[int, Entry]]:
    """Every annotation with its id, once its box is checked."""
    for annotation_id, entry in identified(entries, path, "annotations", "annotation"):
        box = entry.values.get("bbox")
        if box is not None and not is_box(box):
            raise entry.fault("bbox", box, "[x, y, width, height] of finite numbers >= 0")
        yield annotation_id, entry


def _area(entry: Entry) -> float:
    area = entry.values.get("area")
    if area is None:
        return math.nan
    if not is_area(area):
        raise entry.fault("area", area, "a finite number >= 0")
    return float(area)


def _check_segmentations(file: CocoFile) -> None:
    """Checks every segmentation, and turns RLEs, in place, into compressed ones.

    Polygons within their image's surroundings and not long enough for a forbidden outline pass here; all others are
    drawn, which tells what is wrong with them.
    """
    encoded: list[int] = []
    for first in range(0, len(file.ids), _CHUNK):
        rows = range(first, min(first + _CHUNK, len(file.ids)))
        packed = [row for row in rows if isinstance(file.segmentations[row], tuple)]
        for row in _suspicious(file, packed):
            file.mask(row)
        encoded += [row for row in rows if not isinstance(file.segmentations[row], tuple)]
    for row in encoded:
        still = file.images[int(file.image[row])]
        file.segmentations[row] = rle.compress(file.segmentations[row], still.height, still.width, file.where(row))
    rle.validate_many([file.segmentations[row] for row in encoded], lambda i: file.where(encoded[i]))  # type: ignore[misc]


def _suspicious(file: CocoFile, rows: Sequence[int]) -> Iterator[int]:
    """Rows whose polygons have a coordinate out of range, or so many that their outline may be too long."""
    if not rows:
        return
    sizes = np.array([(file.images[i].width, file.images[i].height) for i in file.image[rows].tolist()], np.float64)
    polygons = [np.concatenate(file.segmentations[row]) for row in rows]  # type: ignore[arg-type]
    lengths = np.array([len(polygon) for polygon in polygons])
    points = np.concatenate(polygons).reshape(-1, 2)
    bounds = np.repeat(sizes, lengths // 2, axis=0)
    outside = ~((points >= -bounds) & (points <= 2 * bounds)).all(axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths // 2)[:-1]])
    wrong = np.add.reduceat(outside, starts) > 0
    long = 3 * sizes.max(axis=1) * lengths / 2 > _SHORT
    for position in np.flatnonzero(wrong | long).tolist():
        yield rows[position]
