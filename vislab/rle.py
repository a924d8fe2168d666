"""COCO run-length encoding of masks: a safe codec around pycocotools.

pycocotools trusts what it reads: runs that do not add up to the mask's size leave uninitialised memory in it, long
numbers overflow its 32-bit shifts, wild polygons crash it, and where empty runs of two masks meet, their union and IoU
end early. Here every segmentation from outside is parsed and checked first: in numpy or, if there is much of it, by the
native pass of `native_rle`, which accepts and gives the same. Only checked ones reach pycocotools.

The format (maskApi.c of cocodataset/cocoapi): lengths of alternating runs of 0 and 1, first 0, of the mask in
column-major order. From the fourth on, a length is stored as the difference from the one two before it. Numbers are
written in groups of five bits, lowest first, each as a character from '0' (48) to 'o' (111) whose bit 5 says that
another group follows.

Shape letters: N masks, H W size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from vislab import native_rle
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
    "join_counts",
    "merge",
    "normalise",
    "runs",
    "shown",
    "validate_joined",
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
    return int(runs(rle)[1::2].sum())


def box(rle: RLE) -> tuple[int, int, int, int]:
    """Tight box (x, y, width, height) in pixels, without decoding; zeros for an empty mask."""
    height = rle["size"][0]
    lengths = runs(rle)
    ends, lengths = np.cumsum(lengths)[1::2], lengths[1::2]
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


def join_counts(
    segmentations: Sequence[object], height: int, width: int, where: Callable[[int], str]
) -> tuple[bytes, list[int]]:
    """The counts of all masks of a track as `compress` gives them, one after another, for `validate_joined`.

    segmentations: one per frame, None where there is no mask. where: gives the text that names the i-th one.

    Returns the text, in which a space stands for whatever is not ASCII, and the length of each mask's counts, -1 for
    None.
    """
    present = [segmentation for segmentation in segmentations if segmentation is not None]
    text = _joined_text(present, height, width)
    if text is None:
        counts = [
            compress(segmentation, height, width, where(i))["counts"]
            for i, segmentation in enumerate(segmentations)
            if segmentation is not None
        ]
        text = "".join(counts)
    else:
        counts = [code["counts"] for code in present]  # type: ignore[index]
    lengths = map(len, counts)
    return _ascii(text), [-1 if segmentation is None else next(lengths) for segmentation in segmentations]


def _ascii(text: str) -> bytes:
    """A space, which is no part of any counts, stands for whatever is not ASCII."""
    if not text.isascii():
        text = "".join(character if character.isascii() else " " for character in text)
    return text.encode("ascii")


def _joined_text(segmentations: Sequence[Any], height: int, width: int) -> str | None:
    """The counts of all masks if `compress` would take each as it is, else None.

    All are looked at at once, as a file has a hundred thousand.
    """
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE) or set(map(type, segmentations)) != {dict}:
        return None
    sizes = [code.get("size") for code in segmentations]
    if sizes.count([height, width]) < len(sizes) or set(map(type, chain.from_iterable(sizes))) != {int}:
        return None
    try:
        text = "".join([code["counts"] for code in segmentations])
    except (KeyError, TypeError):  # missing, or no string
        return None
    return text if len(text) <= _CHUNK else None  # else `compress` looks at the length of each


def validate_many(rles: Sequence[RLE], where: Callable[[int], str]) -> np.ndarray:
    """Checks the counts of many compressed RLEs and returns their areas, (N,) int64.

    Counts with a run of 0 pixels after the first are legal, but pycocotools stops where two such runs meet: in these
    entries they are replaced, in place, by the same mask's counts without them.

    rles: as `compress` makes them, with checked sizes. where: gives the text that names the i-th one. Raises UserError
    for counts with a character outside '0'..'o', a number cut off at the end, a negative run, or a sum other than
    height * width.
    """
    texts = [_ascii(rle["counts"]) for rle in rles]
    sizes = np.array([rle["size"] for rle in rles], np.int64).reshape(-1, 2)
    areas, replaced = validate_joined(b"".join(texts), np.array([len(text) for text in texts], np.int64), sizes, where)
    for i, counts in replaced.items():
        rles[i]["counts"] = counts
    return areas


def validate_joined(
    text: bytes, lengths: np.ndarray, sizes: np.ndarray, where: Callable[[int], str]
) -> tuple[np.ndarray, dict[int, str]]:
    """`validate_many` for counts that stand one after another; with the native kernel ten times as fast.

    lengths: (N,) int64, characters of each. sizes: (N, 2) int64, height and width of each mask.

    Returns the areas, (N,) int64, and by index the counts to be put in the place of those that have empty runs.
    """
    ends = np.cumsum(lengths)
    library = native_rle.kernel_for(len(text))
    checked = None if library is None else native_rle.check(library, text, ends, sizes.prod(1))
    if checked is not None:
        areas, empties = checked
    else:  # also where the kernel refuses: what is wrong is found, and told, in one place
        areas, empties = np.empty(len(ends), np.int64), np.zeros(len(ends), bool)
        for part in _parts(ends):
            areas[part], empties[part] = _check(text, ends, sizes, part, where)
    replaced = {}
    for i in np.flatnonzero(empties).tolist():
        runs, _ = _parse(text[ends[i] - lengths[i] : ends[i]], lengths[i : i + 1], where)
        replaced[i] = _counts(_joined(runs), *sizes[i].tolist())
    return areas, replaced


def _parts(ends: np.ndarray) -> Iterator[slice]:
    """Runs of counts that are not longer than _CHUNK in all, or a single one; ends: (N,) of each."""
    start = before = 0
    while start < len(ends):
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        yield slice(start, stop)
        start, before = stop, int(ends[stop - 1])


def _check(
    text: bytes, ends: np.ndarray, sizes: np.ndarray, part: slice, where: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Areas, and whether a run after the first is empty, of some of the counts."""

    def told(i: int) -> str:
        return where(part.start + i)

    first = int(ends[part.start - 1]) if part.start else 0
    runs, run_ends = _parse(text[first : ends[part.stop - 1]], ends[part] - first, told)
    heights, widths = sizes[part].T.tolist()
    wrong = np.flatnonzero((runs < 0) | (runs > MAX_SIDE**2))  # the bound keeps the sums below from overflowing
    if len(wrong):
        i = _owner(wrong[0], run_ends)
        expected = heights[i] * widths[i]
        raise UserError(f"{told(i)}: counts hold a run of {runs[wrong[0]]} pixels, expected 0 to {expected}")
    starts = _starts(run_ends)
    totals = np.add.reduceat(runs, starts)
    wrong = np.flatnonzero(totals != sizes[part].prod(1))
    if len(wrong):
        i = int(wrong[0])
        raise UserError(_wrong_total(told(i), int(totals[i]), heights[i], widths[i]))
    empties = np.zeros(len(starts), bool)
    empty = np.setdiff1d(np.flatnonzero(runs == 0), starts)
    empties[np.searchsorted(run_ends, empty, side="right")] = True
    runs[1::2] *= -1
    surplus = np.add.reduceat(runs, starts) * np.where(starts % 2, -1, 1)  # pixels of value 0 less those of value 1
    return (totals - surplus) // 2, empties


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


def runs(rle: RLE) -> np.ndarray:
    """Lengths of the runs, of 0 first, (runs,) int64; raises UserError if the counts are malformed."""
    text = _ascii(rle["counts"])
    return _parse(text, np.array([len(text)]), lambda _: "RLE")[0]


def _parse(text: bytes, text_ends: np.ndarray, where: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of counts that stand one after another and end at text_ends, (N,) int64.

    Returns the runs of all, concatenated int64, and where those of each end in them, (N,) int64.
    """
    groups = np.frombuffer(text, np.uint8) - np.uint8(48)  # below 48 wraps around to above 63
    foreign = np.flatnonzero(groups > 63)
    if len(foreign):
        raise UserError(f"{where(_owner(foreign[0], text_ends))}: counts hold a character outside '0'..'o'")
    is_empty = np.diff(text_ends, prepend=0) == 0
    cut = is_empty | (groups[text_ends - 1] > 31) if len(groups) else is_empty
    if cut.any():
        i = int(cut.argmax())
        raise UserError(f"{where(i)}: counts {'are empty' if is_empty[i] else 'end in the middle of a number'}")
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
