"""Malformed ground truth and results: what is changed in good files, where the message must point, what it must say.

A place is a JSON path; in the table it begins behind the file's name. Contents are whole files.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

EMPTY = {"size": [4, 6], "counts": "h0"}  # 24 pixels of background

GT: dict[str, Any] = {
    "videos": [{"id": 1, "height": 4, "width": 6, "length": 2}, {"id": 2, "height": 4, "width": 6, "length": 1}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {"id": 7, "video_id": 1, "category_id": 3, "iscrowd": 0, "segmentations": [EMPTY, None], "areas": [0, None]},
        {"id": 8, "video_id": 2, "category_id": 3, "segmentations": [EMPTY], "areas": [5.5]},
    ],
}
RESULTS: list[dict[str, Any]] = [
    {"video_id": 1, "category_id": 3, "score": 0.5, "segmentations": [None, EMPTY]},
    {"video_id": 2, "category_id": 3, "score": 1, "segmentations": [{"size": [4, 6], "counts": [4, 8, 12]}]},
]

Change = Callable[[Any], Any]  # gives the broken document and leaves the good one alone


def put(*path: Any) -> Change:
    """Sets the value at the path; the last item is the value."""
    *parents, last, value = path

    def change(document: Any) -> Any:
        broken = copy.deepcopy(document)
        inner(broken, parents)[last] = value
        return broken

    return change


def drop(*path: Any) -> Change:
    *parents, last = path

    def change(document: Any) -> Any:
        broken = copy.deepcopy(document)
        del inner(broken, parents)[last]
        return broken

    return change


def inner(document: Any, path: Iterable[Any]) -> Any:
    for key in path:
        document = document[key]
    return document


def rename(field: str, new: str) -> Change:
    """In all records of the results."""
    return lambda document: [{new if k == field else k: value for k, value in record.items()} for record in document]


def whole(document: object) -> Change:
    return lambda _: document


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


VIDEO, CATEGORY, TRACK = ("videos", 0), ("categories", 0), ("annotations", 0)
MASK = (*TRACK, "segmentations", 0)
CODE = "annotations[0].segmentations[0]"

GROUND_TRUTH: list[tuple[Change, str, str]] = [
    # the document
    (whole([]), "the top level", "is a list, expected an object"),
    (whole(RESULTS), "the top level", "it looks like results: the ground truth comes first"),
    (whole(None), "the top level", "is null, expected an object"),
    (whole("text"), "the top level", 'is "text", expected an object'),
    (whole(3), "the top level", "is 3, expected an object"),
    (whole(nested(500)), "the top level", "is a list, expected an object"),
    (whole({"images": [], "categories": [], "annotations": []}), "videos", "a COCO file, not one of videos"),
    (drop("videos"), "videos", "is missing, expected a list"),
    (drop("categories"), "categories", "is missing, expected a list"),
    (drop("annotations"), "annotations", "is missing, expected a list"),
    (put("videos", {"1": {}}), "videos", 'is {"1": {}}, expected a list'),
    (put("categories", "cat"), "categories", 'is "cat", expected a list'),
    (put("annotations", None), "annotations", "is null: this file has no labels"),
    (put("annotations", {}), "annotations", "is {}, expected a list"),
    # videos
    (put(*VIDEO, []), "videos[0]", "is a list, expected an object"),
    (put(*VIDEO, None), "videos[0]", "is null, expected an object"),
    (drop(*VIDEO, "id"), "videos[0].id", "is missing, expected an integer"),
    (put(*VIDEO, "id", "1"), "videos[0].id", 'is "1", expected an integer'),
    (put(*VIDEO, "id", 1.0), "videos[0].id", "is 1.0, expected an integer"),
    (put(*VIDEO, "id", True), "videos[0].id", "is true, expected an integer"),
    (put(*VIDEO, "id", 2**70), "videos[0].id", f"is {2**70}, expected an integer"),
    (put("videos", 1, "id", 1), "videos[1].id", "is 1, which videos[0] has already"),
    (drop(*VIDEO, "height"), "videos[0].height", "is missing, expected an integer from 1 to 16384"),
    (put(*VIDEO, "height", True), "videos[0].height", "is true, expected an integer from 1"),
    (put(*VIDEO, "height", -4), "videos[0].height", "is -4, expected an integer from 1"),
    (put(*VIDEO, "height", 2**40), "videos[0].height", f"is {2**40}, expected an integer from 1 to 16384"),
    (put(*VIDEO, "width", 0), "videos[0].width", "is 0, expected an integer from 1"),
    (put(*VIDEO, "width", 6.0), "videos[0].width", "is 6.0, expected an integer from 1"),
    (put(*VIDEO, "width", float("nan")), "videos[0].width", "is NaN, expected an integer from 1"),
    (put(*VIDEO, "width", [6]), "videos[0].width", "is [6], expected an integer from 1"),
    (put(*VIDEO, "length", -1), "videos[0].length", "is -1, expected an integer >= 0"),
    (put(*VIDEO, "length", "2"), "videos[0].length", 'is "2", expected an integer >= 0'),
    (put(*VIDEO, "length", 2.0), "videos[0].length", "is 2.0, expected an integer >= 0"),
    (put(*VIDEO, "file_names", ["a.jpg"]), "videos[0].length", "is 2, expected 1, the number of file_names"),
    (put(*VIDEO, "file_names", 2), "videos[0].file_names", "is 2, expected a list"),
    # categories
    (put(*CATEGORY, "cat"), "categories[0]", 'is "cat", expected an object'),
    (put(*CATEGORY, "id", None), "categories[0].id", "is null, expected an integer"),
    (put(*CATEGORY, "id", 3), "categories[1].id", "is 3, which categories[0] has already"),
    (put(*CATEGORY, "name", 5), "categories[0].name", "is 5, expected a string"),
    (drop(*CATEGORY, "name"), "categories[0].name", "is missing, expected a string"),
    (put(*CATEGORY, "name", "\ud800"), "categories[0].name", r'is "\ud800", expected a string'),
    # annotations
    (put("annotations", 1, "x"), "annotations[1]", 'is "x", expected an object'),
    (put("annotations", 1, []), "annotations[1]", "is a list, expected an object"),
    (put("annotations", 1, "id", 7), "annotations[1].id", "is 7, which annotations[0] has already"),
    (put("annotations", 1, "id", 1.5), "annotations[1].id", "is 1.5, expected an integer"),
    (put(*TRACK, "id", None), "annotations[0].id", "is null, expected an integer"),
    (drop(*TRACK, "video_id"), "annotations[0].video_id", "is missing, expected an integer"),
    (put(*TRACK, "video_id", 9), "annotations[0].video_id", "is 9, which the ground truth does not have"),
    (put(*TRACK, "video_id", [1]), "annotations[0].video_id", "is [1], expected an integer"),
    (drop(*TRACK, "category_id"), "annotations[0].category_id", "is missing, expected an integer"),
    (put(*TRACK, "category_id", 2), "annotations[0].category_id", "is 2, which the ground truth does not have"),
    (put(*TRACK, "category_id", "3"), "annotations[0].category_id", 'is "3", expected an integer'),
    (put(*TRACK, "iscrowd", 2), "annotations[0].iscrowd", "is 2, expected 0 or 1"),
    (put(*TRACK, "iscrowd", "no"), "annotations[0].iscrowd", 'is "no", expected 0 or 1'),
    (put(*TRACK, "iscrowd", None), "annotations[0].iscrowd", "is null, expected 0 or 1"),
    (put(*TRACK, "iscrowd", float("nan")), "annotations[0].iscrowd", "is NaN, expected 0 or 1"),
    (drop(*TRACK, "areas"), "annotations[0].areas", "is missing, expected a list"),
    (put(*TRACK, "areas", 1), "annotations[0].areas", "is 1, expected a list"),
    (put(*TRACK, "areas", [1]), "annotations[0].areas", "has 1 entries, segmentations has 2"),
    (put(*TRACK, "areas", 0, -1), "annotations[0].areas[0]", "is -1, expected a number >= 0 or null"),
    (put(*TRACK, "areas", 0, False), "annotations[0].areas[0]", "is false, expected a number >= 0 or null"),
    (put(*TRACK, "areas", 1, "big"), "annotations[0].areas[1]", 'is "big", expected a number >= 0'),
    (put(*TRACK, "areas", 1, []), "annotations[0].areas[1]", "is [], expected a number >= 0"),
    (put(*TRACK, "areas", 0, float("nan")), "annotations[0].areas[0]", "is NaN, expected a number >= 0"),
    (put(*TRACK, "areas", 0, float("inf")), "annotations[0].areas[0]", "is Infinity, expected a number >= 0"),
    (put(*TRACK, "areas", 0, 10**400), "annotations[0].areas[0]", "is 10000000"),
    (put(*TRACK, "areas", 0, 25), "annotations[0].areas[0]", "is 25, expected at most 4 x 6 = 24 pixels"),
    (drop(*TRACK, "segmentations"), "annotations[0].segmentations", "is missing, expected a list"),
    (put(*TRACK, "segmentations", EMPTY), "annotations[0].segmentations", "expected a list with one entry per frame"),
    (put(*TRACK, "segmentations", [EMPTY]), "annotations[0].segmentations", "has 1 entries, expected 2, the length"),
    (put(*VIDEO, "length", 10**15), "annotations[0].segmentations", f"has 2 entries, expected {10**15}, the length"),
    # polygons
    (put(*MASK, []), CODE, "found an empty list"),
    (put(*MASK, [[]]), CODE, "at least 3 points, found []"),
    (put(*MASK, [[0, 0, 4, 0]]), CODE, "at least 3 points, found [0, 0, 4, 0]"),
    (put(*MASK, [[0, 0, 4, 0, 4, 4, 2]]), CODE, "a polygon is a list of x, y pairs"),
    (put(*MASK, [0, 0, 4, 0, 4, 4]), CODE, "a polygon is a list of x, y pairs"),
    (put(*MASK, [[[0, 0], [4, 0], [4, 4]] * 2]), CODE, "polygon coordinate 0 is [0, 0]"),
    (put(*MASK, [[0, 0, 4, 0, float("nan"), 4]]), CODE, "polygon coordinate 4 is NaN"),
    (put(*MASK, [[0, 0, 4, 0, float("-inf"), 4]]), CODE, "polygon coordinate 4 is -Infinity"),
    (put(*MASK, [[0, 0, 4, 0, 4, 4], [0, 1e30, 4, 0, 4, 4]]), CODE, "polygon coordinate 1 is 1e+30 in polygon 1"),
    (put(*MASK, [[0, 0, 4, 0, 4, 10**400]]), CODE, "polygon coordinate 5 is 1000000"),
    (put(*MASK, [[0, 0, 4, 0, None, 4]]), CODE, "polygon coordinate 4 is null"),
    (put(*MASK, [[0, 0, 4, 0, True, 4]]), CODE, "polygon coordinate 4 is true"),
    (put(*MASK, [[-6, -4, 12, 8] * 40_000]), CODE, "the outline is "),
    (put(*MASK, nested(500)), CODE, "at least 3 points"),
]

FRAME = (0, "segmentations", 1)
SEEN = "[0].segmentations[1]"

RESULTS_LIST: list[tuple[Change, str, str]] = [
    # the document
    (whole({}), "the top level", "is an object, expected a list of detections"),
    (
        whole({"results": RESULTS}),
        "the top level",
        'expected a list of detections (there is one in it, under "results")',
    ),
    (whole(GT), "the top level", "it looks like ground truth: the results come second"),
    (whole(None), "the top level", "is null, expected a list"),
    (whole("text"), "the top level", 'is "text", expected a list'),
    (whole(1e999), "the top level", "is Infinity, expected a list"),
    (whole([RESULTS]), "[0]", "is a list, expected an object"),
    (put(1, "text"), "[1]", 'is "text", expected an object'),
    (put(1, None), "[1]", "is null, expected an object"),
    # fields
    (put(0, "score", "0.5"), "[0].score", 'is "0.5", expected a number'),
    (put(1, "score", float("nan")), "[1].score", "is NaN, expected a number"),
    (put(1, "score", float("inf")), "[1].score", "is Infinity, expected a number"),
    (put(1, "score", -(10**400)), "[1].score", "is -1000000"),
    (put(1, "score", True), "[1].score", "is true, expected a number"),
    (put(1, "score", None), "[1].score", "is null, expected a number"),
    (put(1, "score", [0.5]), "[1].score", "is [0.5], expected a number"),
    (put(1, "score", nested(500)), "[1].score", "expected a number"),
    (drop(0, "score"), "[0].score", "is missing, expected a number"),
    (drop(0, "video_id"), "[0].video_id", "is missing, expected an integer"),
    (rename("video_id", "image_id"), "[0].video_id", "it has image_id: results of single images"),
    (put(0, "video_id", 0), "[0].video_id", "its ids are 1 to 2 (they start at 1: is this one counted from 0?)"),
    (put(0, "video_id", 5), "[0].video_id", "is 5, which the ground truth does not have; its ids are 1 to 2"),
    (put(0, "video_id", "1"), "[0].video_id", 'is "1", expected an integer'),
    (put(0, "video_id", 1.0), "[0].video_id", "is 1.0, expected an integer"),
    (put(0, "video_id", False), "[0].video_id", "is false, expected an integer"),
    (drop(0, "category_id"), "[0].category_id", "is missing, expected an integer"),
    (put(0, "category_id", 0), "[0].category_id", "they start at 1: is this one counted from 0?"),
    (put(0, "category_id", 2), "[0].category_id", "is 2, which the ground truth does not have; its ids are 1 to 3"),
    (put(0, "category_id", "dog"), "[0].category_id", 'is "dog", expected an integer'),
    (put(0, "category_id", -(2**64)), "[0].category_id", f"is {-(2**64)}, expected an integer"),
    (put(0, "category_id", {}), "[0].category_id", "is {}, expected an integer"),
    (drop(0, "segmentations"), "[0].segmentations", "is missing, expected a list"),
    (rename("segmentations", "segmentation"), "[0].segmentations", "it has segmentation: an entry of a single image"),
    (put(0, "segmentations", None), "[0].segmentations", "is null, expected a list"),
    (put(0, "segmentations", {"0": EMPTY}), "[0].segmentations", "expected a list with one entry per frame"),
    (put(0, "segmentations", []), "[0].segmentations", "has 0 entries, expected 2, the length of video 1"),
    (put(0, "segmentations", [None] * 3), "[0].segmentations", "has 3 entries, expected 2, the length of video 1"),
    (put(0, "segmentations", "ab"), "[0].segmentations", 'is "ab", expected a list'),
    # run-length codes
    (put(*FRAME, "h0"), SEEN, "expected an RLE"),
    (put(*FRAME, 0), SEEN, "expected an RLE"),
    (put(*FRAME, False), SEEN, "expected an RLE"),
    (put(*FRAME, {}), SEEN, "expected an RLE"),
    (put(*FRAME, {"size": [4, 6]}), SEEN, "expected an RLE"),
    (put(*FRAME, {"counts": "h0"}), SEEN, "expected an RLE"),
    (
        put(*FRAME, "size", [6, 4]),
        SEEN,
        "size is [6, 4], expected [height, width] = [4, 6] (height and width are swapped)",
    ),
    (put(*FRAME, "size", [5, 6]), SEEN, "size is [5, 6], expected [height, width] = [4, 6]"),
    (put(*FRAME, "size", [4.0, 6.0]), SEEN, "size is [4.0, 6.0], expected"),
    (put(*FRAME, "size", [-4, -6]), SEEN, "size is [-4, -6], expected"),
    (put(*FRAME, "size", [4, 6, 1]), SEEN, "size is [4, 6, 1], expected"),
    (put(*FRAME, "size", [[4], [6]]), SEEN, "size is [[4], [6]], expected"),
    (put(*FRAME, "size", "4x6"), SEEN, 'size is "4x6", expected'),
    (put(*FRAME, "size", None), SEEN, "size is null, expected"),
    (put(*FRAME, "size", {"height": 4, "width": 6}), SEEN, 'size is {"height": 4, "width": 6}, expected'),
    (put(*FRAME, "counts", 24), SEEN, "counts must be a string or a list of integers, found 24"),
    (put(*FRAME, "counts", None), SEEN, "counts must be a string or a list of integers, found null"),
    (put(*FRAME, "counts", {"0": 24}), SEEN, 'counts must be a string or a list of integers, found {"0": 24}'),
    (put(*FRAME, "counts", ""), SEEN, "counts are empty"),
    (put(*FRAME, "counts", "h"), SEEN, "counts end in the middle of a number"),
    (put(*FRAME, "counts", "h0h0"), SEEN, "counts add up to 48 pixels, expected 4 x 6 = 24"),
    (put(*FRAME, "counts", "g0"), SEEN, "counts add up to 23 pixels"),
    (put(*FRAME, "counts", "h\u00e9"), SEEN, "counts hold a character outside"),
    (put(*FRAME, "counts", "h0\ud800"), SEEN, "counts hold a character outside"),
    (put(*FRAME, "counts", "h0\0"), SEEN, "counts hold a character outside"),
    (put(*FRAME, "counts", "b'h0'"), SEEN, "counts hold a character outside"),
    (put(*FRAME, "counts", "hPPPPPPPPPP0"), SEEN, "counts hold a number of more than 6 characters"),
    (put(*FRAME, "counts", "JJ"), SEEN, "counts hold a run of -6 pixels, expected 0 to 24"),
    (put(*FRAME, "counts", "oooooOl0"), SEEN, "counts hold a run of -1 pixels"),
    (put(*FRAME, "counts", "000" + "ooooo?" * 2), SEEN, "counts hold a run of 536870911 pixels"),
    (put(*FRAME, "counts", "0" * 300_000), SEEN, "counts are 300000 long, expected at most"),
    (put(*FRAME, "counts", []), SEEN, "counts add up to 0 pixels"),
    (put(*FRAME, "counts", [4, 8]), SEEN, "counts add up to 12 pixels, expected 4 x 6 = 24"),
    (put(*FRAME, "counts", [30, -6]), SEEN, "counts must be integers >= 0, found -6"),
    (put(*FRAME, "counts", [24.0]), SEEN, "counts must be integers >= 0, found 24.0"),
    (put(*FRAME, "counts", [True, 23]), SEEN, "counts must be integers >= 0, found true"),
    (put(*FRAME, "counts", [[24]]), SEEN, "counts must be integers >= 0, found [24]"),
    (put(*FRAME, "counts", [int("9" * 4300)] * 2), SEEN, "counts add up to a value of type int"),
]


def archive() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        file.writestr("results.json", json.dumps(RESULTS))
    return memory.getvalue()


CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "blank": (b" \n\n", "the file is empty"),
    "cut in a list": (json.dumps(RESULTS).encode()[:-1], "the file seems cut off"),
    "cut in a string": (
        json.dumps(RESULTS).encode()[: json.dumps(RESULTS).index("score") + 2],
        "the file seems cut off",
    ),
    "quotes": (b"[{'score': 1}]", "line 1, column 3 (Expecting property name enclosed in double quotes)"),
    "comma": (b"[1, ]", "not valid JSON at line 1"),
    "two documents": (b"{}\n{}\n", "line 2, column 1 (Extra data)"),
    "comment": (b"// results\n[]", "not valid JSON at line 1, column 1"),
    "web page": (b"<!DOCTYPE html><html></html>", "not valid JSON at line 1, column 1"),
    "gzip": (gzip.compress(json.dumps(RESULTS).encode()), "the file is gzip-compressed, unpack it first"),
    "zip": (archive(), "the file is a zip archive, unpack it first"),
    "Latin-1": ('[{"name": "\u00e9"}]'.encode("latin-1"), "codec can't decode byte"),
    "UTF-16, cut": ("[1]".encode("utf-16")[:-1], "codec can't decode"),
    "binary": (bytes(range(128, 256)) * 10, "not valid JSON"),
    "null bytes": (b"\0" * 100, "not valid JSON"),
    "deep": (b"[" * 200_000, "not valid JSON"),
    "deep objects": (b'{"a":' * 200_000, "not valid JSON"),
    "huge number": (b"1" * 10_000, "not valid JSON"),
    "key twice": (b'[{"score": 1, "score": 0}]', 'key "score" occurs twice in one object'),
}
