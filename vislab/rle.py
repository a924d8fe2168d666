"""COCO run-length encoding of masks: a safe codec around pycocotools.

pycocotools trusts what it reads: runs that do not add up to the mask's size leave uninitialised memory in it, long
numbers overflow its 32-bit shifts, wild polygons crash it, and where empty runs of two masks meet, their union and IoU
end early. Here every segmentation from outside is parsed and checked in numpy first; only checked ones reach it.

The format (maskApi.c of cocodataset/cocoapi): lengths of alternating runs of 0 and 1, first 0, of the mask in
column-major order. From the fourth on, a length is stored as the difference from the one two before it. Numbers are
written in groups of five bits, lowest first, each as a character from '0' (48) to 'o' (111) whose bit 5 says that
another group follows.

Shape letters: N masks, H W size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from vislab.errors import UserError

__all__ = [
    "MAX_SIDE",
    "RLE",
    "area",
    "box",
    "compress",
    "decode",
    "decode_checked",
    "encode",
    "encode_many",
    "merge",
    "normalise",
    "shown",
    "validate_many",
]

RLE = dict[str, Any]  # {"size": [height, width], "counts": str}

MAX_SIDE = 16_384  # pixels; with both sides within it, no run needs more than _GROUP_LIMIT characters
_GROUP_LIMIT = 6  # characters per number: 30 bits; pycocotools shifts by 5 bits per character in 32-bit integers
_MAX_OUTLINE = 2**20  # pixels along the polygons of one mask: pycocotools needs about 100 bytes for each of them
_CHUNK = 200_000  # characters parsed at once: bounds the memory of `validate_many`
_SHOWN = 60  # characters of a value in a message


def encode(mask: np.ndarray) -> RLE:
    """Compressed RLE of one mask, (H, W) bool or 0/1 integers."""
    assert mask.ndim == 2
    return encode_many(mask[None])[0]


def encode_many(masks: np.ndarray) -> list[RLE]:
    """Compressed RLEs of (N, H, W) masks, bool or 0/1 integers. H and W are at least 1."""
    assert masks.ndim == 3 and 0 not in masks.shape[1:], masks.shape
    if not len(masks):
        return []
    # (H, W, N) in Fortran order is (N, W, H) in C order: one transposing copy for all masks
    columns = np.ascontiguousarray(masks.astype(np.uint8, copy=False).transpose(0, 2, 1))
    return [_with_text_counts(rle) for rle in coco_mask.encode(columns.transpose(2, 1, 0))]


def decode(segmentation: object, height: int, width: int, where: str = "segmentation") -> np.ndarray:
    """Mask (height, width) bool of a compressed RLE, an uncompressed RLE or polygons, checked first.

    Raises UserError, which begins with `where`, if the segmentation is malformed or of another size.
    """
    return decode_checked(normalise(segmentation, height, width, where))


def decode_checked(rle: RLE) -> np.ndarray:
    """Mask (H, W) bool of a compressed RLE made by this module: no checks, so never for data from outside."""
    return coco_mask.decode(rle).view(bool)


def normalise(segmentation: object, height: int, width: int, where: str = "segmentation") -> RLE:
    """Any COCO segmentation as a compressed RLE with counts as str, fully checked.

    segmentation: {"size", "counts"} with counts as str or bytes (compressed) or as a list of run lengths, or a list of
    polygons [[x1, y1, x2, y2, ...], ...] in pixels. height, width: of the image, 1 to MAX_SIDE. Raises UserError, which
    begins with `where`.
    """
    rle = compress(segmentation, height, width, where)
    validate_many([rle], lambda _: where)
    return rle


def compress(segmentation: object, height: int, width: int, where: str = "segmentation") -> RLE:
    """As `normalise`, but what the counts hold stays unchecked: `validate_many` does that for many at once."""
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise UserError(f"{where}: the image has {height} x {width} pixels, expected 1 to {MAX_SIDE} on each side")
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, height, width, where)
    counts = _checked_frame(segmentation, height, width, where)
    if isinstance(counts, list):
        return _from_runs(counts, height, width, where)
    return {"size": [height, width], "counts": counts.decode("latin-1") if isinstance(counts, bytes) else counts}


def area(rle: RLE) -> int:
    """Number of pixels, without decoding; raises UserError if the counts are malformed."""
    return int(_runs(rle)[1::2].sum())


def box(rle: RLE) -> tuple[int, int, int, int]:
    """Tight box (x, y, width, height) in pixels, without decoding; zeros for an empty mask."""
    height = rle["size"][0]
    runs = _runs(rle)
    ends = np.cumsum(runs)[1::2]
    lengths = runs[1::2]
    first, last = (ends - lengths)[lengths > 0], ends[lengths > 0] - 1
    if not len(first):
        return 0, 0, 0, 0
    # a run that goes on into the next column touches both the bottom and the top row
    crosses = first // height != last // height
    left, right = int(first[0] // height), int(last[-1] // height)
    top = int(np.where(crosses, 0, first % height).min())
    bottom = int(np.where(crosses, height - 1, last % height).max())
    return left, top, right - left + 1, bottom - top + 1


def merge(rles: Sequence[RLE], intersect: bool = False) -> RLE:
    """Union, or intersection, of checked compressed RLEs of one size; at least one."""
    assert rles and all(rle["size"] == rles[0]["size"] for rle in rles)
    return _with_text_counts(coco_mask.merge(list(rles), intersect=intersect))


def _with_text_counts(rle: RLE) -> RLE:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _checked_frame(segmentation: object, height: int, width: int, where: str) -> str | bytes | list:
    """The counts of an RLE dict, after its keys, types and size are checked."""
    if not isinstance(segmentation, dict) or "counts" not in segmentation or "size" not in segmentation:
        found = shown(segmentation)
        raise UserError(f'{where}: expected an RLE {{"size", "counts"}}, a list of polygons or null, found {found}')
    size, counts = segmentation["size"], segmentation["counts"]
    if not _is_size(size, height, width):
        hint = " (height and width are swapped)" if _is_size(size, width, height) else ""
        raise UserError(f"{where}: size is {shown(size)}, expected [height, width] = [{height}, {width}]{hint}")
    if not isinstance(counts, (str, bytes, list)):
        raise UserError(f"{where}: counts must be a string or a list of integers, found {shown(counts)}")
    longest = max(_CHUNK, _GROUP_LIMIT * (height * width + 1))
    if len(counts) > longest:  # parsing would need a hundred times its memory
        raise UserError(
            f"{where}: counts are {len(counts)} long, expected at most {longest} for {height} x {width} pixels"
        )
    return counts


def _is_size(size: object, height: int, width: int) -> bool:
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        return False
    return type(size[0]) is int is type(size[1]) and size[0] == height and size[1] == width


def _from_runs(counts: list, height: int, width: int, where: str) -> RLE:
    if not set(map(type, counts)) <= {int} or min(counts, default=0) < 0:
        wrong = next(run for run in counts if type(run) is not int or run < 0)
        raise UserError(f"{where}: counts must be integers >= 0, found {shown(wrong)}")
    if sum(counts) != height * width:
        raise UserError(_wrong_total(where, sum(counts), height, width))
    return {"size": [height, width], "counts": _counts(counts, height, width)}


def _wrong_total(where: str, total: int, height: int, width: int) -> str:
    return f"{where}: counts add up to {shown(total)} pixels, expected {height} x {width} = {height * width}"


def _from_polygons(polygons: list, height: int, width: int, where: str) -> RLE:
    if not polygons:
        raise UserError(f"{where}: found an empty list, expected at least one polygon, or null if not visible")
    outline = 0.0
    for index, polygon in enumerate(polygons):
        _check_polygon(polygon, index, height, width, where)
        outline += _outline(polygon)
    if outline > _MAX_OUTLINE:
        raise UserError(f"{where}: the outline is {outline:.3g} pixels long, expected at most {_MAX_OUTLINE}")
    parts = coco_mask.frPyObjects([[float(value) for value in polygon] for polygon in polygons], height, width)
    return _with_text_counts(coco_mask.merge(parts))


def _check_polygon(polygon: object, index: int, height: int, width: int, where: str) -> None:
    """pycocotools reads 4 numbers as a box, and needs memory in proportion to the outline's length."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        found = f"{shown(polygon)} as polygon {index}"
        raise UserError(f"{where}: a polygon is a list of x, y pairs of at least 3 points, found {found}")
    for position, value in enumerate(polygon):
        side = height if position % 2 else width
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -side <= value <= 2 * side:
            raise UserError(
                f"{where}: polygon coordinate {position} is {shown(value)} in polygon {index}, "
                f"expected a number from {-side} to {2 * side} (within one image size of the image)"
            )


def _outline(polygon: list) -> float:
    """Length in pixels as pycocotools walks it: along the longer side of each edge."""
    points = np.array(polygon, np.float64).reshape(-1, 2)
    return float(np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum())


def validate_many(rles: Sequence[RLE], where: Callable[[int], str]) -> np.ndarray:
    """Checks the counts of many compressed RLEs and returns their areas, (N,) int64. Reads 3e7 characters a second.

    Counts with a run of 0 pixels after the first are legal, but pycocotools stops where two such runs meet: in these
    entries they are replaced, in place, by the same mask's counts without them.

    rles: as `compress` makes them, with checked sizes. where: gives the text that names the i-th one. Raises UserError
    for counts with a character outside '0'..'o', a number cut off at the end, a negative run, or a sum other than
    height * width.
    """
    areas = [np.zeros(0, np.int64)]
    start = 0
    while start < len(rles):
        stop, characters = start + 1, len(rles[start]["counts"])
        while stop < len(rles) and (characters := characters + len(rles[stop]["counts"])) <= _CHUNK:
            stop += 1
        areas.append(_validate_chunk(rles[start:stop], partial(_shifted, where, start)))
        start = stop
    return np.concatenate(areas)


def _shifted(where: Callable[[int], str], first: int, i: int) -> str:
    return where(first + i)


def _validate_chunk(rles: Sequence[RLE], where: Callable[[int], str]) -> np.ndarray:
    runs, ends = _parse([rle["counts"] for rle in rles], where)
    wrong = np.flatnonzero((runs < 0) | (runs > MAX_SIDE**2))  # the bound keeps the sums below from overflowing
    if len(wrong):
        first = _owner(wrong[0], ends)
        height, width = rles[first]["size"]
        raise UserError(f"{where(first)}: counts hold a run of {runs[wrong[0]]} pixels, expected 0 to {height * width}")
    starts = _starts(ends)
    totals = np.add.reduceat(runs, starts)
    wrong = np.flatnonzero(totals != np.array([rle["size"][0] * rle["size"][1] for rle in rles]))
    if len(wrong):
        first = int(wrong[0])
        raise UserError(_wrong_total(where(first), int(totals[first]), *rles[first]["size"]))
    empty = np.setdiff1d(np.flatnonzero(runs == 0), starts)
    for i in np.unique(np.searchsorted(ends, empty, side="right")):
        rles[i]["counts"] = _counts(_joined(runs[starts[i] : ends[i]]), *rles[i]["size"])
    runs[1::2] *= -1
    surplus = np.add.reduceat(runs, starts) * np.where(starts % 2, -1, 1)  # pixels of value 0 less those of value 1
    return (totals - surplus) // 2


def _joined(runs: np.ndarray) -> np.ndarray:
    """Runs of the same mask, none empty but perhaps the first: neighbours of an empty one have the same value."""
    values = np.arange(len(runs)) % 2
    filled = runs > 0
    joined = np.cumsum(np.abs(np.diff(values[filled], prepend=0)))  # which run of the result each one belongs to
    result = np.zeros(joined[-1] + 1, np.int64)
    np.add.at(result, joined, runs[filled])
    return result


def _counts(runs: Sequence[int] | np.ndarray, height: int, width: int) -> str:
    """Compressed counts of checked runs."""
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"].decode("ascii")


def _runs(rle: RLE) -> np.ndarray:
    return _parse([rle["counts"]], lambda _: "RLE")[0]


def _parse(texts: Sequence[str], where: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of all counts strings, concatenated int64, and where each string's runs end in it, (N,) int64."""
    text_ends = np.cumsum([len(text) for text in texts])
    joined = "".join(texts)
    if joined.isascii():
        groups = np.frombuffer(joined.encode("ascii"), np.uint8) - np.uint8(48)  # below 48 wraps around to above 63
        foreign = np.flatnonzero(groups > 63)
    else:
        foreign = np.array([next(i for i, character in enumerate(joined) if not character.isascii())])
    if len(foreign):
        raise UserError(f"{where(_owner(foreign[0], text_ends))}: counts hold a character outside '0'..'o'")
    for i, text in enumerate(texts):
        if not text or text[-1] >= "P":
            raise UserError(f"{where(i)}: counts {'end in the middle of a number' if text else 'are empty'}")
    number_ends = np.flatnonzero(groups < 0x20)
    lengths = np.diff(number_ends, prepend=-1)
    if lengths.max() > _GROUP_LIMIT:
        i = _owner(number_ends[lengths.argmax()], text_ends)
        raise UserError(f"{where(i)}: counts hold a number of more than {_GROUP_LIMIT} characters")
    ends = np.searchsorted(number_ends, text_ends)
    return _undo_differences(_numbers(groups, number_ends, lengths), ends), ends


def _numbers(groups: np.ndarray, last: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Signed integers from five-bit groups, lowest first; bit 4 of the last group is the sign. From the last back."""
    numbers = (groups.take(last) ^ 16).astype(np.int64) - 16
    longer, place = np.flatnonzero(lengths > 1), 1
    while len(longer):
        numbers[longer] = (numbers.take(longer) << 5) + (groups.take(last.take(longer) - place) & 0x1F)
        place += 1
        longer = longer[lengths.take(longer) > place]
    return numbers


def _undo_differences(numbers: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Runs from stored numbers: from position 3 of each string on, run[p] = number[p] + run[p - 2].

    So a run is a sum of every second number of its string. Here every second number of all strings is summed up, and
    what had come together before the string's first addend is taken off again. Number 0 is the addend of no other.
    """
    runs, starts = np.empty_like(numbers), _starts(ends)
    for parity in (0, 1):
        sums = np.concatenate([[0], np.cumsum(numbers[parity::2])])
        first = (starts + 1 - parity) // 2  # of each string, among every second number
        before = sums[first + (starts % 2 == parity)]
        runs[parity::2] = sums[1:] - np.repeat(before, np.diff(first, append=len(sums) - 1))
    runs[starts] = numbers[starts]
    return runs


def _starts(ends: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], ends[:-1]])


def _owner(element: np.integer, ends: np.ndarray) -> int:
    """Segment that holds an element."""
    return int(np.searchsorted(ends, element, side="right"))


def shown(value: object) -> str:
    """A value as JSON, cut to a readable length: for messages."""
    text = ""
    try:
        for piece in json.JSONEncoder().iterencode(value):  # a large value is not written out whole
            text += piece
            if len(text) > _SHOWN:
                return f"{text[: _SHOWN - 3]}..."
    except (TypeError, ValueError, RecursionError):  # no JSON, an integer of thousands of digits, too deep
        return f"a value of type {type(value).__name__}"
    return text
