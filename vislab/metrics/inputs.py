"""Reading of ground truth and results: checked once, before any number is made of them.

Every mask ends as a compressed run-length code that vislab.rle has checked. A mistake ends in one UserError that names
the file and the place in it, as in `results.json: [12].score is "abc", expected a number`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from vislab import rle
from vislab.errors import UserError

_MAX_PIXELS = 2**31 - 1  # pycocotools counts pixels in 32 bits


@dataclass(frozen=True)
class Video:
    id: int
    height: int
    width: int
    length: int | None  # frames; None if the file does not say


@dataclass(frozen=True, eq=False)
class Instance:
    """One labelled or detected object of one video.

    `track` has a run-length code per frame, None where the object is absent; `mask_areas` (T,) int64 their pixels, 0
    where absent. `record` is the entry of the file, `where` names it in messages.
    """

    video_id: int
    category_id: int
    track: list[rle.RLE | None]
    mask_areas: np.ndarray
    record: Mapping[str, Any]
    where: str

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
    """Contents of a JSON file; raises UserError if it is missing, cut off or not JSON."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON, or cut off ({error})") from error


def read_ground_truth(data: object, source: str = "ground truth", *, any_length: bool = False) -> GroundTruth:
    """Checked YouTube-VIS ground truth.

    Args:
        data: {"videos": [{"id", "height", "width", "length" (optional)}], "categories": [{"id", "name"}],
            "annotations": [{"video_id", "category_id", "iscrowd" (0 if left out), "segmentations": one mask or null per
            frame, "areas": one number or null per frame}]}. A mask is an RLE, compressed or not, or a list of polygons.
        source: the file's name, for messages.
        any_length: accept lists that are shorter or longer than their video.
    """
    if not isinstance(data, dict):
        raise UserError(f"{source}: the top level is {_kind(data)}, expected an object with annotations")
    videos = _by_id(_records(data, "videos", source), f"{source}: videos", _video)
    categories = _by_id(_records(data, "categories", source), f"{source}: categories", _category_name)
    if data.get("annotations", 0) is None:
        raise UserError(f"{source}: annotations is null: this file has no labels to compare with")
    records = _records(data, "annotations", source)
    places = [f"{source}: annotations[{index}]" for index in range(len(records))]
    _refuse_repeated_ids(records, places)
    for record, where in zip(records, places, strict=True):
        if record.get("iscrowd", 0) not in (0, 1):
            raise UserError(f"{where}.iscrowd is {shown(record['iscrowd'])}, expected 0 or 1")
        _check_areas(record, where)
    return GroundTruth(videos, categories, _instances(records, places, videos, categories, any_length))


def read_results(
    data: object, truth: GroundTruth, source: str = "results", *, any_length: bool = False
) -> list[Instance]:
    """Checked YouTube-VIS results: [{"video_id", "category_id", "score", "segmentations"}]; see `read_ground_truth`."""
    if not isinstance(data, list):
        raise UserError(f"{source}: the top level is {_kind(data)}, expected a list of detections")
    places = [f"{source}: [{index}]" for index in range(len(data))]
    for record, where in zip(data, places, strict=True):
        if not isinstance(record, dict):
            raise UserError(f"{where} is {_kind(record)}, expected an object")
        number(record, "score", where)
    return _instances(data, places, truth.videos, truth.categories, any_length)


def _instances(
    records: Sequence[dict],
    places: Sequence[str],
    videos: dict[int, Video],
    categories: dict[int, str],
    any_length: bool,
) -> list[Instance]:
    tracks = []
    for record, where in zip(records, places, strict=True):
        _check_known(record, "video_id", videos, where)
        _check_known(record, "category_id", categories, where)
        tracks.append(_track(record, videos[record["video_id"]], where, any_length))
    owners = [(i, frame) for i, track in enumerate(tracks) for frame, code in enumerate(track) if code is not None]
    codes = [code for track in tracks for code in track if code is not None]

    def place(index: int) -> str:
        owner, frame = owners[index]
        return f"{places[owner]}.segmentations[{frame}]"

    areas = iter(rle.validate_many(codes, place).tolist())
    return [
        Instance(
            video_id=record["video_id"],
            category_id=record["category_id"],
            track=track,
            mask_areas=np.array([0 if code is None else next(areas) for code in track], np.int64),
            record=record,
            where=where,
        )
        for record, track, where in zip(records, tracks, places, strict=True)
    ]


def _track(record: dict, video: Video, where: str, any_length: bool) -> list[rle.RLE | None]:
    """Run-length codes of one record, of the right size; compressed ones are yet to be validated."""
    segmentations = listed(record, "segmentations", where)
    if video.length is not None and len(segmentations) != video.length and not any_length:
        raise UserError(
            f"{where}.segmentations has {len(segmentations)} entries, "
            f"expected {video.length}, the length of video {video.id}"
        )
    size = [video.height, video.width]
    track: list[rle.RLE | None] = []
    for frame, segmentation in enumerate(segmentations):
        if segmentation is None:
            track.append(None)
        elif (
            isinstance(segmentation, dict)
            and isinstance(segmentation.get("counts"), str)
            and segmentation.get("size") == size
        ):
            track.append({"size": size, "counts": segmentation["counts"]})  # checked together with all others
        else:
            track.append(rle.normalise(segmentation, video.height, video.width, f"{where}.segmentations[{frame}]"))
    return track


def _check_areas(record: dict, where: str) -> None:
    areas = listed(record, "areas", where)
    for frame, area in enumerate(areas):
        if area is not None and not (is_number(area) and area >= 0):
            raise UserError(f"{where}.areas[{frame}] is {shown(area)}, expected a number >= 0 or null")
    if isinstance(record.get("segmentations"), list) and len(areas) != len(record["segmentations"]):
        raise UserError(f"{where}.areas has {len(areas)} entries, segmentations has {len(record['segmentations'])}")


def _video(record: dict, where: str) -> Video:
    height, width = (_integer(record, side, where, low=1) for side in ("height", "width"))
    if height * width > _MAX_PIXELS:
        raise UserError(f"{where}: height x width is {height} x {width}, expected at most {_MAX_PIXELS} pixels")
    length = None if record.get("length") is None else _integer(record, "length", where, low=0)
    return Video(record["id"], height, width, length)


def _category_name(record: dict, where: str) -> str:
    if not isinstance(record.get("name"), str):
        raise UserError(f"{where}.name is {_found(record, 'name')}, expected a string")
    return record["name"]


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


def _check_known(record: dict, field: str, known: Mapping[int, object], where: str) -> None:
    identifier = _integer(record, field, where)
    if identifier not in known:
        raise UserError(
            f"{where}.{field} is {identifier}, which the ground truth does not have"
            + (" (the published evaluator refuses such results too)" if field == "video_id" else "")
        )


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
        raise UserError(f"{where}.{field} is {_found(record, field)}, expected a list with one entry per frame")
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


def _integer(record: Mapping[str, Any], field: str, where: str, low: int | None = None) -> int:
    value = record.get(field)
    if type(value) is not int or not -(2**63) <= value < 2**63 or (low is not None and value < low):
        expected = "an integer" if low is None else f"an integer >= {low}"
        raise UserError(f"{where}.{field} is {_found(record, field)}, expected {expected}")
    return value


def _found(record: Mapping[str, Any], field: str) -> str:
    return shown(record[field]) if field in record else "missing"


def _kind(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return shown(value)


def shown(value: object) -> str:
    """A value as JSON, cut to a readable length."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
