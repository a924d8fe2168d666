"""Reading of ground truth and results: checked once, before any number is made of them.

Every mask ends as a compressed run-length code that vislab.rle has checked. A mistake ends in one UserError that names
the file and the place in it, as in `results.json: [12].score is "abc", expected a number`.
"""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from vislab import rle
from vislab.errors import UserError
from vislab.rle import shown

_ARCHIVES = {b"\x1f\x8b": "gzip-compressed", b"PK\x03\x04": "a zip archive"}  # by their first bytes


@dataclass(frozen=True)
class Video:
    id: int
    height: int
    width: int
    length: int | None  # frames; None if nothing says


@dataclass(frozen=True, eq=False)
class Instance:
    """One labelled or detected object of one video.

    `counts` are the run-length counts of all its masks, one after another; those of each frame end at `ends`, (T,)
    int64, and are empty where the object is absent. `mask_areas` (T,) int64 are their pixels, 0 where absent. `record`
    is the entry of the file without its segmentations, `where` names it in messages.
    """

    video_id: int
    category_id: int
    size: tuple[int, int]  # height, width
    counts: bytes
    ends: np.ndarray
    mask_areas: np.ndarray
    record: Mapping[str, Any]
    where: str

    @property
    def length(self) -> int:
        """Frames."""
        return len(self.ends)

    @property
    def track(self) -> list[rle.RLE | None]:
        """A run-length code per frame, checked, None where the object is absent; made anew at each call."""
        spans = pairwise([0, *self.ends.tolist()])
        return [
            {"size": list(self.size), "counts": self.counts[start:end].decode("ascii")} if end > start else None
            for start, end in spans
        ]

    @cached_property
    def num_masks(self) -> int:
        """Frames with a mask that is not empty."""
        return int(np.count_nonzero(self.mask_areas))

    @cached_property
    def total_area(self) -> int:
        """Pixels of all masks."""
        return int(self.mask_areas.sum())

    @property
    def mean_mask_area(self) -> float:
        """Mean over the masks that are not empty, in pixels; 0 without any."""
        return self.total_area / max(self.num_masks, 1)

    @property
    def score(self) -> float:
        return float(self.record["score"])

    @property
    def is_crowd(self) -> bool:
        return bool(self.record.get("iscrowd", 0))


@dataclass(frozen=True, eq=False)
class GroundTruth:
    videos: dict[int, Video]  # by rising id
    categories: dict[int, str]  # by rising id
    instances: list[Instance]


def load_json(path: str | PathLike) -> Any:
    """Contents of a JSON file; raises UserError if it is missing, cut off, not JSON, or names a key twice."""
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        with collector_paused():
            return json.loads(content, object_pairs_hook=_unique_keys)
    except _RepeatedKey as error:
        raise UserError(f"{path}: key {shown(str(error))} occurs twice in one object") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON{_cause(content, error)}") from error


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for reference cycles, which takes long where many objects are made at once, all without cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _RepeatedKey(Exception):
    """Its text is the key."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return record


def _cause(content: bytes, error: Exception) -> str:
    """Why content is no JSON; follows "not valid JSON"."""
    if not content.strip():
        return ": the file is empty"
    for first, kind in _ARCHIVES.items():
        if content.startswith(first):
            return f": the file is {kind}, unpack it first"
    if not isinstance(error, json.JSONDecodeError):
        return f" ({error})"
    cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    place = f"line {error.lineno}, column {error.colno}"
    return f" at {place} ({error.msg}{'; the file seems cut off' if cut else ''})"


def read_ground_truth(data: object, source: str = "ground truth", *, any_length: bool = False) -> GroundTruth:
    """Checked YouTube-VIS ground truth.

    Args:
        data: {"videos": [{"id", "height", "width", "length" (if left out: that of "file_names", or any)}],
            "categories": [{"id", "name"}],
            "annotations": [{"video_id", "category_id", "iscrowd" (0 if left out), "segmentations": one mask or null per
            frame, "areas": one number or null per frame}]}. A mask is an RLE, compressed or not, or a list of polygons.
        source: the file's name, for messages.
        any_length: accept lists that are shorter or longer than their video.
    """
    if not isinstance(data, dict):
        hint = _if(_has(data, "score"), "it looks like results: the ground truth comes first")
        raise UserError(f"{source}: the top level is {_kind(data)}, expected an object with annotations{hint}")
    if "videos" not in data and "images" in data:
        raise UserError(f"{source}: videos is missing, expected a list (it has images: a COCO file, not one of videos)")
    videos = _by_id(_records(data, "videos", source), f"{source}: videos", _video)
    categories = _by_id(_records(data, "categories", source), f"{source}: categories", _category_name)
    if data.get("annotations", 0) is None:
        raise UserError(f"{source}: annotations is null: this file has no labels to compare with")
    records = _records(data, "annotations", source)
    places = [f"{source}: annotations[{index}]" for index in range(len(records))]
    _refuse_repeated_ids(records, places)
    for record, where in zip(records, places, strict=True):
        if not isinstance(crowd := record.get("iscrowd", 0), (int, float)) or crowd not in (0, 1):
            raise UserError(f"{where}.iscrowd is {shown(crowd)}, expected 0 or 1")
    instances = _instances(records, places, videos, categories, any_length)
    for instance in instances:
        _check_areas(instance, videos[instance.video_id])
    return GroundTruth(videos, categories, instances)


def read_results(
    data: object, truth: GroundTruth, source: str = "results", *, any_length: bool = False
) -> list[Instance]:
    """Checked YouTube-VIS results: [{"video_id", "category_id", "score", "segmentations"}]; see `read_ground_truth`."""
    if not isinstance(data, list):
        raise UserError(
            f"{source}: the top level is {_kind(data)}, expected a list of detections{_no_list_cause(data)}"
        )
    places = [f"{source}: [{index}]" for index in range(len(data))]
    for record, where in zip(data, places, strict=True):
        if not isinstance(record, dict):
            raise UserError(f"{where} is {_kind(record)}, expected an object")
        if "video_id" not in record and "image_id" in record:
            hint = "it has image_id: results of single images, not of videos"
            raise UserError(f"{where}.video_id is missing, expected an integer ({hint})")
        number(record, "score", where)
    return _instances(data, places, truth.videos, truth.categories, any_length)


def _no_list_cause(data: object) -> str:
    """A likely cause of results that are no list."""
    if not isinstance(data, dict):
        return ""
    if "videos" in data or "images" in data:
        return " (it looks like ground truth: the results come second)"
    return next(
        (f" (there is one in it, under {shown(key)})" for key, value in data.items() if _has(value, "score")), ""
    )


def _instances(
    records: Sequence[dict],
    places: Sequence[str],
    videos: dict[int, Video],
    categories: dict[int, str],
    any_length: bool,
) -> list[Instance]:
    texts, tracks, sizes = [], [], []
    for record, where in zip(records, places, strict=True):
        video = videos[_known(record, "video_id", videos, where)]
        _known(record, "category_id", categories, where)
        text, own_lengths = _track(record, video, where, any_length)
        texts.append(text)
        tracks.append(own_lengths)
        sizes.append((video.height, video.width))
    ends = np.cumsum([0, *map(len, tracks)])
    lengths = np.array([*chain.from_iterable(tracks)], np.int64)  # frame after frame, -1 where there is no mask
    positions = np.flatnonzero(lengths >= 0)
    owners = np.searchsorted(ends, positions, side="right") - 1

    def place(mask: int) -> str:
        return f"{places[owners[mask]]}.segmentations[{positions[mask] - ends[owners[mask]]}]"

    mask_sizes = np.array(sizes, np.int64).reshape(-1, 2)[owners]
    mask_areas, replaced = rle.validate_joined(b"".join(texts), lengths[positions], mask_sizes, place)
    areas = np.zeros(len(lengths), np.int64)
    areas[positions] = mask_areas
    lengths = np.maximum(lengths, 0)
    spans = [slice(start, end) for start, end in pairwise(ends.tolist())]
    for mask, counts in replaced.items():
        owner, position = owners[mask], positions[mask] - ends[owners[mask]]
        texts[owner] = _with(texts[owner], lengths[spans[owner]], position, counts.encode("ascii"))
    return [
        Instance(
            record["video_id"],
            record["category_id"],
            size,
            text,
            np.cumsum(lengths[span]),
            areas[span],
            {name: value for name, value in record.items() if name != "segmentations"},
            where,
        )
        for record, size, text, span, where in zip(records, sizes, texts, spans, places, strict=True)
    ]


def _with(text: bytes, lengths: np.ndarray, frame: int, counts: bytes) -> bytes:
    """The counts of a track with others for one frame, of which the length is changed in place; lengths: (T,)."""
    start = int(lengths[:frame].sum())
    end = start + int(lengths[frame])
    lengths[frame] = len(counts)
    return text[:start] + counts + text[end:]


def _track(record: dict, video: Video, where: str, any_length: bool) -> tuple[bytes, list[int]]:
    """`rle.join_counts` of one record, for masks of the right size; what they hold is yet to be validated."""
    segmentations = listed(record, "segmentations", where)
    if video.length is not None and len(segmentations) != video.length and not any_length:
        raise UserError(
            f"{where}.segmentations has {len(segmentations)} entries, "
            f"expected {video.length}, the length of video {video.id}"
        )
    return rle.join_counts(segmentations, video.height, video.width, lambda frame: f"{where}.segmentations[{frame}]")


def _check_areas(instance: Instance, video: Video) -> None:
    """Areas are the file's own count of each mask's pixels; they decide on the area range, and need not be exact."""
    where = instance.where
    areas = listed(instance.record, "areas", where)
    if len(areas) != instance.length:
        raise UserError(f"{where}.areas has {len(areas)} entries, segmentations has {instance.length}")
    pixels = video.height * video.width
    given = [area for area in areas if area is not None]
    if set(map(type, given)) <= {int} and min(given, default=0) >= 0 and max(given, default=0) <= pixels:
        return
    for frame, area in enumerate(areas):
        if area is not None and not (is_number(area) and area >= 0):
            raise UserError(f"{where}.areas[{frame}] is {shown(area)}, expected a number >= 0 or null")
        if area is not None and area > pixels:
            raise UserError(
                f"{where}.areas[{frame}] is {shown(area)}, expected at most {video.height} x {video.width} = "
                f"{pixels} pixels, the size of video {video.id}"
            )


def _video(record: dict, where: str) -> Video:
    height, width = (_integer(record, side, where, low=1, high=rle.MAX_SIDE) for side in ("height", "width"))
    length = None if record.get("length") is None else _integer(record, "length", where, low=0)
    if record.get("file_names") is not None:
        names = len(listed(record, "file_names", where))
        if length is not None and length != names:
            raise UserError(f"{where}.length is {length}, expected {names}, the number of file_names")
        length = names
    return Video(record["id"], height, width, length)


def _category_name(record: dict, where: str) -> str:
    name = record.get("name")
    if not isinstance(name, str) or any("\ud800" <= character <= "\udfff" for character in name):
        raise UserError(f"{where}.name is {_found(record, 'name')}, expected a string")  # surrogates cannot be printed
    return name


def _by_id(records: Sequence[dict], where: str, make: Callable[[dict, str], Any]) -> dict[int, Any]:
    """Records by rising id, each id once."""
    places = [f"{where}[{index}]" for index in range(len(records))]
    made = {_integer(record, "id", place): make(record, place) for record, place in zip(records, places, strict=True)}
    _refuse_repeated_ids(records, places)
    return dict(sorted(made.items()))


def _refuse_repeated_ids(records: Sequence[dict], places: Sequence[str]) -> None:
    first: dict[int, str] = {}
    for record, where in zip(records, places, strict=True):
        if "id" in record:
            identifier = _integer(record, "id", where)
            if identifier in first:
                raise UserError(f"{where}.id is {identifier}, which {first[identifier].split(': ')[-1]} has already")
            first[identifier] = where


def _known(record: dict, field: str, known: Mapping[int, object], where: str) -> int:
    identifier = _integer(record, field, where)
    if identifier not in known:
        low, high = min(known, default=None), max(known, default=None)
        hint = _if(identifier == 0 and low == 1, "they start at 1: is this one counted from 0?")
        there = "it has none" if low is None else f"its ids are {low} to {high}{hint}"
        raise UserError(f"{where}.{field} is {identifier}, which the ground truth does not have; {there}")
    return identifier


def _records(data: dict, field: str, source: str) -> list[dict]:
    records = data.get(field)
    if not isinstance(records, list):
        raise UserError(f"{source}: {field} is {_found(data, field)}, expected a list")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise UserError(f"{source}: {field}[{index}] is {_kind(record)}, expected an object")
    return records


def listed(record: Mapping[str, Any], field: str, where: str) -> list:
    """A field that must be a list."""
    if not isinstance(record.get(field), list):
        hint = _if("segmentation" in record and field not in record, "it has segmentation: an entry of a single image")
        raise UserError(f"{where}.{field} is {_found(record, field)}, expected a list with one entry per frame{hint}")
    return record[field]


def number(record: Mapping[str, Any], field: str, where: str) -> float:
    """A field that must be a finite number."""
    if not is_number(record.get(field)):
        raise UserError(f"{where}.{field} is {_found(record, field)}, expected a number")
    return float(record[field])


def is_number(value: object) -> bool:
    """Whether a value is a finite number (true and false are none)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def _integer(record: Mapping[str, Any], field: str, where: str, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    value = record.get(field)
    if type(value) is not int or not low <= value <= high:
        above = f" >= {low}" if high == 2**63 - 1 else f" from {low} to {high}"
        expected = f"an integer{above if low > -(2**63) else ''}"
        raise UserError(f"{where}.{field} is {_found(record, field)}, expected {expected}")
    return value


def _has(data: object, field: str) -> bool:
    """Whether it is a list of records with this field."""
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and field in data[0]


def _if(condition: bool, hint: str) -> str:
    return f" ({hint})" if condition else ""


def _found(record: Mapping[str, Any], field: str) -> str:
    return shown(record[field]) if field in record else "missing"


def _kind(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return shown(value)
