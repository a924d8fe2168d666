"""RLE codec against pycocotools (on well-formed input) and against plain definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from vislab import native_rle, rle
from vislab.errors import UserError


@pytest.fixture(scope="module", params=["numpy", "native"], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here holds for both."""
    if request.param == "native" and native_rle.native_kernel().library is None:
        pytest.skip(native_rle.native_kernel().reason)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_rle, "WORTHWHILE", 0 if request.param == "native" else math.inf)
        yield


MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def plain_runs(mask: np.ndarray) -> list[int]:
    """Run lengths by walking over the pixels, column by column, first run of zeros."""
    runs, current = [0], False
    for value in mask.T.ravel():
        if value != current:
            runs.append(0)
            current = not current
        runs[-1] += 1
    return runs


def plain_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0, 0, 0, 0
    return columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1


def coco_encode(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def error_of(segmentation: object, height: int = 4, width: int = 5) -> str:
    with pytest.raises(UserError) as caught:
        rle.decode(segmentation, height, width, "a.json: annotation 3: segmentations[2]")
    assert str(caught.value).startswith("a.json: annotation 3: segmentations[2]: ")
    return str(caught.value)


@given(MASKS)
@settings(max_examples=80, deadline=None)
def test_random_masks_agree_with_pycocotools_and_definition(mask: np.ndarray) -> None:
    height, width = mask.shape
    code = rle.encode(mask)
    assert code == {"size": [height, width], "counts": coco_encode(mask)}
    for counts in (code["counts"], code["counts"].encode(), plain_runs(mask)):
        decoded = rle.decode({"size": [height, width], "counts": counts}, height, width)
        assert decoded.dtype == bool and np.array_equal(decoded, mask)
    assert rle.area(code) == mask.sum()
    assert rle.box(code) == plain_box(mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 4), (480, 640)])
@pytest.mark.parametrize("value", [False, True])
def test_constant_masks(shape: tuple[int, int], value: bool) -> None:
    mask = np.full(shape, value)
    code = rle.encode(mask)
    assert code["counts"] == coco_encode(mask)
    assert np.array_equal(rle.decode(code, *shape), mask)
    assert rle.area(code) == mask.sum() and rle.box(code) == plain_box(mask)


def test_encode_many_equals_encode_one_by_one() -> None:
    masks = np.random.default_rng(0).random((7, 11, 6)) < 0.4
    assert rle.encode_many(masks) == [rle.encode(mask) for mask in masks]
    assert rle.encode_many(masks.astype(np.uint8)) == rle.encode_many(masks)
    assert rle.encode_many(masks[:, ::-1]) == [rle.encode(mask[::-1]) for mask in masks]
    assert rle.encode_many(masks[:0]) == []


def test_zero_length_runs_are_legal() -> None:
    counts = [0, 0, 3, 0, 0, 2, 15]
    mask = rle.decode({"size": [4, 5], "counts": counts}, 4, 5)
    assert np.flatnonzero(mask.T.ravel()).tolist() == [3, 4]
    code = rle.normalise({"size": [4, 5], "counts": counts}, 4, 5)
    assert rle.area(code) == 2 and rle.box(code) == plain_box(mask)


def test_empty_runs_in_the_same_place_do_not_end_a_comparison() -> None:
    """pycocotools stops where two masks both have an empty run: their IoU would be 0 and their union cut off."""
    counts = [0, 0, 3, 0, 0, 2, 15]
    code = rle.normalise({"size": [4, 5], "counts": counts}, 4, 5)
    plain = rle.encode(rle.decode(code, 4, 5))
    assert code == plain
    assert rle.merge([code, code]) == plain and coco_mask.iou([code], [code], [0]) == 1
    compressed = {"size": [4, 5], "counts": "0030M2?"}  # the same runs
    assert rle.validate_many([compressed], str) == 2 and compressed == plain
    trailing = rle.normalise({"size": [4, 5], "counts": [18, 2, 0, 0]}, 4, 5)
    assert trailing == rle.normalise({"size": [4, 5], "counts": [18, 2]}, 4, 5)


def test_numbers_are_no_longer_than_32_bit_shifts_allow() -> None:
    """-20 in 7 characters shifts by 35 bits, which pycocotools does in 32."""
    with pytest.raises(UserError, match="more than 6 characters"):
        rle.decode({"size": [5, 7], "counts": "5h02\\oooooO"}, 5, 7)
    mask = rle.decode({"size": [5, 7], "counts": "5h02\\ooooO"}, 5, 7)
    assert plain_runs(mask) == [5, 24, 2, 4]


def test_merge_is_union_and_intersection() -> None:
    a, b, c = np.random.default_rng(1).random((3, 6, 7)) < 0.5
    codes = [rle.encode(mask) for mask in (a, b, c)]
    assert np.array_equal(rle.decode(rle.merge(codes), 6, 7), a | b | c)
    assert np.array_equal(rle.decode(rle.merge(codes, intersect=True), 6, 7), a & b & c)
    assert rle.merge(codes[:1]) == codes[0]


def test_polygons_fill_what_they_outline() -> None:
    square = [2.0, 1.0, 8.0, 1.0, 8.0, 5.0, 2.0, 5.0]
    second = [10, 6, 14, 6, 14, 9, 10, 9]
    mask = rle.decode([square, second], 10, 16)
    expected = np.zeros((10, 16), bool)
    expected[1:5, 2:8] = True
    expected[6:9, 10:14] = True
    assert np.array_equal(mask, expected)
    outside = rle.decode([[-5, -5, 30, -5, 30, 19, -5, 19]], 10, 16)
    assert outside.all()


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12) | st.text(max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_string_decodes_fully_or_is_refused(counts: str) -> None:
    """Whatever is accepted must round-trip: its runs cover the mask exactly."""
    try:
        mask = rle.decode({"size": [3, 4], "counts": counts}, 3, 4)
    except UserError:
        return
    assert mask.shape == (3, 4) and rle.area({"size": [3, 4], "counts": counts}) == mask.sum()


@given(MASKS, st.data())
@settings(max_examples=60, deadline=None)
def test_a_cut_string_is_refused(mask: np.ndarray, data: st.DataObject) -> None:
    code = rle.encode(mask)
    stop = data.draw(st.integers(0, len(code["counts"]) - 1))
    if plain_runs(mask)[-1] == 0 and stop == len(code["counts"]) - 1:
        return
    with pytest.raises(UserError):
        rle.decode({"size": code["size"], "counts": code["counts"][:stop]}, *mask.shape)


@pytest.mark.parametrize(
    ("segmentation", "told"),
    [
        ({"size": [4, 5], "counts": "c0"}, "add up to 19"),
        ({"size": [4, 5], "counts": ""}, "empty"),
        ({"size": [4, 5], "counts": "P"}, "middle of a number"),
        ({"size": [4, 5], "counts": "T0 "}, "character outside"),
        ({"size": [4, 5], "counts": "é"}, "character outside"),
        ({"size": [4, 5], "counts": b"\xff"}, "character outside"),
        ({"size": [4, 5], "counts": "JJ"}, "run of -6 pixels"),
        ({"size": [4, 5], "counts": "PPPPPPPPP0"}, "more than 6 characters"),
        ({"size": [5, 4], "counts": "d0"}, "size is [5, 4], expected [height, width] = [4, 5]"),
        ({"size": [4.0, 5.0], "counts": "d0"}, "size is [4.0, 5.0]"),
        ({"size": [4, True], "counts": "d0"}, "size is [4, true]"),
        ({"size": np.array([4, 5]), "counts": "d0"}, "size is a value of type ndarray"),
        ({"size": [4, 5], "counts": [2**20_000, 2**20_000]}, "add up to a value of type int"),
        ({"size": [4, 5], "counts": "0" * 300_000}, "counts are 300000 long"),
        ({"size": "4x5", "counts": "d0"}, 'size is "4x5"'),
        ({"counts": "d0"}, "expected an RLE"),
        ({"size": [4, 5], "counts": 20}, "counts must be"),
        ({"size": [4, 5], "counts": [10, 9]}, "add up to 19 pixels, expected 4 x 5 = 20"),
        ({"size": [4, 5], "counts": [30, -10]}, "found -10"),
        ({"size": [4, 5], "counts": [20.0]}, "found 20.0"),
        ({"size": [4, 5], "counts": [True, 19]}, "found true"),
        ({"size": [4, 5], "counts": []}, "add up to 0"),
        ({"size": [4, 5], "counts": [2**70]}, "add up to"),
        ([], "empty list"),
        ([[1, 1, 2, 2]], "at least 3 points"),
        ([[1, 1, 2, 2, 3]], "x, y pairs"),
        ([1, 1, 2, 2, 3, 3], "x, y pairs"),
        ([[1, 1, 2, float("nan"), 3, 3]], "coordinate 3 is NaN"),
        ([[1, 1, 2, float("inf"), 3, 3]], "coordinate 3 is Infinity"),
        ([[1, 1, 1e9, 2, 3, 3]], "coordinate 2 is 1000000000.0"),
        ([[1, 1, "2", 2, 3, 3]], 'coordinate 2 is "2"'),
        ([[-5, -4, 10, 8] * 40_000], "the outline is "),
        (7, "found 7"),
        (None, "found null"),
    ],
)
def test_malformed_segmentations_are_named(segmentation: object, told: str) -> None:
    assert told in error_of(segmentation)


def test_sides_are_bounded() -> None:
    assert rle.normalise({"size": [rle.MAX_SIDE, 1], "counts": [rle.MAX_SIDE]}, rle.MAX_SIDE, 1)
    for height, width in ((rle.MAX_SIDE + 1, 1), (1, 2**40), (0, 4), (-3, 4)):
        with pytest.raises(UserError, match=f"a: the image has {height} x {width} pixels, expected 1 to 16384"):
            rle.decode([[0, 0, 1, 0, 1, 1]], height, width, "a")


@pytest.mark.parametrize("value", [[1] * 10**6, "x" * 10**6, {"a": [{}] * 10**6}])
def test_large_values_are_shown_by_their_beginning(value: object) -> None:
    assert len(rle.shown(value)) == 60 and rle.shown(value).endswith("...")


def test_validate_many_names_the_faulty_one_and_returns_areas() -> None:
    masks = np.random.default_rng(2).random((50, 8, 9)) < 0.3
    codes = rle.encode_many(masks)
    areas = rle.validate_many(codes, str)
    assert areas.dtype == np.int64 and np.array_equal(areas, masks.sum(axis=(1, 2)))
    codes[33] = {"size": [8, 9], "counts": codes[33]["counts"][:-1]}
    with pytest.raises(UserError, match="^mask 33: "):
        rle.validate_many(codes, lambda i: f"mask {i}")
    assert rle.validate_many([], str).shape == (0,)


def test_validate_many_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rle, "_CHUNK", 30)
    masks = np.random.default_rng(3).random((40, 5, 7)) < 0.5
    codes = rle.encode_many(masks)
    assert np.array_equal(rle.validate_many(codes, str), masks.sum(axis=(1, 2)))
    codes[29] = {"size": [5, 7], "counts": "0"}
    with pytest.raises(UserError, match="^29: "):
        rle.validate_many(codes, str)
