"""COCO run-length encoding of masks: a safe codec around pycocotools.

pycocotools trusts what it decodes: runs that do not add up to the mask's size leave uninitialised memory in it. Here
every segmentation from outside is parsed and checked in numpy first; only checked ones reach pycocotools.

The format (maskApi.c of cocodataset/cocoapi): lengths of alternating runs of 0 and 1, first 0, of the mask in
column-major order. From the fourth on, a length is stored as the difference from the one two before it. Numbers are
written in groups of five bits, lowest first, each as a character from '0' (48) to 'o' (111) whose bit 5 says that
another group follows.

Shape letters: N masks, H W size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from vislab.errors import UserError

__all__ = [
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
    "validate_many",
]

RLE = dict[str, Any]  # {"size": [height, width], "counts": str}

_GROUP_LIMIT = 7  # characters per number: 35 bits, more than any run needs
_CHUNK = 200_000  # characters parsed at once: bounds the memory of `validate_many`


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
    polygons [[x1, y1, x2, y2, ...], ...] in pixels. Raises UserError, which begins with `where`.
    """
    rle = compress(segmentation, height, width, where)
    validate_many([rle], lambda _: where)
    return rle


def compress(segmentation: object, height: int, width: int, where: str = "segmentation") -> RLE:
    """As `normalise`, but counts that are compressed already stay unchecked: `validate_many` checks many at once."""
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
        found = _shown(segmentation)
        raise UserError(f'{where}: expected an RLE {{"size", "counts"}}, a list of polygons or null, found {found}')
    size, counts = segmentation["size"], segmentation["counts"]
    if size != [height, width] and size != (height, width):
        raise UserError(f"{where}: size is {_shown(size)}, expected [height, width] = [{height}, {width}]")
    if not isinstance(counts, (str, bytes, list)):
        raise UserError(f"{where}: counts must be a string or a list of integers, found {_shown(counts)}")
    return counts


def _from_runs(counts: list, height: int, width: int, where: str) -> RLE:
    for run in counts:
        if type(run) is not int or run < 0:
            raise UserError(f"{where}: counts must be integers >= 0, found {_shown(run)}")
    if sum(counts) != height * width:
        raise UserError(_wrong_total(where, sum(counts), height, width))
    return _with_text_counts(coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def _wrong_total(where: str, total: int, height: int, width: int) -> str:
    return f"{where}: counts add up to {total} pixels, expected {height} x {width} = {height * width}"


def _from_polygons(polygons: list, height: int, width: int, where: str) -> RLE:
    if not polygons:
        raise UserError(f"{where}: found an empty list, expected at least one polygon, or null if not visible")
    for polygon in polygons:
        _check_polygon(polygon, height, width, where)
    parts = coco_mask.frPyObjects([[float(value) for value in polygon] for polygon in polygons], height, width)
    return _with_text_counts(coco_mask.merge(parts))


def _check_polygon(polygon: object, height: int, width: int, where: str) -> None:
    """pycocotools reads 4 numbers as a box, and needs memory in proportion to the outline's length."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise UserError(f"{where}: a polygon is a list of x, y pairs of at least 3 points, found {_shown(polygon)}")
    for position, value in enumerate(polygon):
        side = height if position % 2 else width
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -side <= value <= 2 * side:
            raise UserError(
                f"{where}: polygon coordinate {position} is {_shown(value)}, "
                f"expected a number from {-side} to {2 * side} (within one image size of the image)"
            )


def validate_many(rles: Sequence[RLE], where: Callable[[int], str]) -> np.ndarray:
    """Checks the counts of many compressed RLEs (1e5 in seconds) and returns their areas, (N,) int64.

    The sizes must be checked before. where: gives the text that names the i-th one. Raises UserError for counts with a
    character outside '0'..'o', a number cut off at the end, a negative run, or a sum other than height * width.
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
    negative = np.flatnonzero(runs < 0)
    if len(negative):
        run = runs[negative[0]]
        raise UserError(f"{where(_owner(negative[0], ends))}: counts hold a run of {run} pixels, expected >= 0")
    totals = _segment_sums(runs, ends)
    wrong = np.flatnonzero(totals != np.array([rle["size"][0] * rle["size"][1] for rle in rles]))
    if len(wrong):
        first = int(wrong[0])
        raise UserError(_wrong_total(where(first), int(totals[first]), *rles[first]["size"]))
    return _segment_sums(np.where(_positions(ends) % 2 == 1, runs, 0), ends)


def _runs(rle: RLE) -> np.ndarray:
    return _parse([rle["counts"]], lambda _: "RLE")[0]


def _parse(texts: Sequence[str | bytes], where: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of all counts strings, concatenated int64, and where each string's runs end in it, (N,) int64."""
    encoded = [text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass") for text in texts]
    text_ends = np.cumsum([len(text) for text in encoded])
    groups = np.frombuffer(b"".join(encoded), np.uint8) - np.uint8(48)  # what is below 48 wraps around to > 63
    foreign = np.flatnonzero(groups > 63)
    if len(foreign):
        raise UserError(f"{where(_owner(foreign[0], text_ends))}: counts hold a character outside '0'..'o'")
    for i, text in enumerate(encoded):
        if not text or (text[-1] - 48) & 0x20:
            raise UserError(f"{where(i)}: counts {'are empty' if not text else 'end in the middle of a number'}")
    number_ends = np.flatnonzero(groups < 0x20) + 1
    too_long = np.flatnonzero(np.diff(number_ends, prepend=0) > _GROUP_LIMIT)
    if len(too_long):
        i = _owner(number_ends[too_long[0]] - 1, text_ends)
        raise UserError(f"{where(i)}: counts hold a number of more than {_GROUP_LIMIT} characters")
    ends = np.searchsorted(number_ends, text_ends, side="right")
    return _undo_differences(_numbers(groups, number_ends), ends), ends


def _numbers(groups: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Signed integers from five-bit groups, lowest first; bit 4 of a number's last group is its sign."""
    shifts = 5 * _positions(ends)
    values = _segment_sums((groups & 0x1F).astype(np.int64) << shifts, ends)
    negative = (groups[ends - 1] & 0x10) != 0
    return values - (negative.astype(np.int64) << (shifts[ends - 1] + 5))


def _undo_differences(numbers: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Runs from stored numbers: from position 3 of each string on, run[p] = number[p] + run[p - 2]."""
    positions = _positions(ends)
    runs = numbers.copy()
    for chosen in ((positions & 1) == 1, ((positions & 1) == 0) & (positions > 0)):
        sums = np.concatenate([[0], np.cumsum(numbers[chosen])])
        chosen_ends = np.concatenate([[0], np.cumsum(chosen)])[ends]  # of each string, among the chosen
        lengths = np.diff(chosen_ends, prepend=0)
        runs[chosen] = sums[1:] - np.repeat(sums[chosen_ends - lengths], lengths)
    return runs


def _positions(ends: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each of the segments that end at `ends`."""
    lengths = np.diff(ends, prepend=0)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _segment_sums(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sum of each segment; none is empty."""
    return np.add.reduceat(values, np.concatenate([[0], ends[:-1]]))


def _owner(element: int, ends: np.ndarray) -> int:
    """Segment that holds an element."""
    return int(np.searchsorted(ends, element, side="right"))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
