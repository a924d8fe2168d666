"""The native pass over run-length codes against the definition in numpy and pycocotools; when it is used."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from test_rle_fuzz import KINDS

from vislab import native_build, native_rle, rle
from vislab.errors import UserError

PATHS = {"numpy": math.inf, "native": 0}


@pytest.fixture
def library():
    kernel = native_rle.native_kernel()
    if kernel.library is None:
        pytest.skip(kernel.reason)
    return kernel.library


def outcome(codes: list[rle.RLE], path: str, patch: pytest.MonkeyPatch) -> object:
    """Areas and codes after the check, or the message."""
    patch.setattr(native_rle, "WORTHWHILE", PATHS[path])
    own = [dict(code) for code in codes]
    try:
        return rle.validate_many(own, lambda i: f"code {i}").tolist(), own
    except UserError as error:
        return str(error)


def test_both_paths_tell_the_same(library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Areas, codes without empty runs, and messages, also where several codes are wrong, over several chunks."""
    monkeypatch.setattr(rle, "_CHUNK", 60)
    rng = random.Random(0)
    messages, accepted = set(), 0
    for _ in range(500):
        kinds = rng.choices(KINDS[:4] if rng.random() < 0.5 else KINDS, k=rng.randint(1, 12))
        codes = [{"size": [height, width], "counts": counts} for counts, height, width in (kind(rng) for kind in kinds)]
        found = outcome(codes, "native", monkeypatch)
        assert found == outcome(codes, "numpy", monkeypatch), codes
        accepted += not isinstance(found, str)
        messages |= {found.split(": ")[1][:22]} if isinstance(found, str) else set()
    assert accepted > 60 and len(messages) >= 6, messages


def test_long_texts_between_short_numbers(library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight numbers of one character are read at once: every place of a longer one, and of a fault, among them."""
    for place in range(20):
        for number in ("0", "O", "P0", "k1", "o0", "/", "p", "\x7f", "\xb0", "\u0130", ""):
            counts = "5" * place + number + "3" * 19
            codes = [{"size": [3, 50], "counts": counts}, rle.encode(np.eye(9, dtype=bool))]
            assert outcome(codes, "native", monkeypatch) == outcome(codes, "numpy", monkeypatch), counts
    runs = np.random.default_rng(0).integers(1, 16, 400)
    for length in range(1, 60):
        own = runs[:length].tolist()
        code = rle.normalise({"size": [1, sum(own)], "counts": own}, 1, sum(own))
        assert rle.validate_many([code], str) == sum(own[1::2])


def tracks_of(masks: list[list[np.ndarray | None]]) -> native_rle.Tracks:
    codes = [["" if mask is None else rle.encode(mask)["counts"] for mask in track] for track in masks]
    ends = [np.cumsum([len(code) for code in track], dtype=np.int64) for track in codes]
    firsts = np.cumsum([0, *map(len, codes)])
    return native_rle.Tracks(["".join(track).encode() for track in codes], np.concatenate(ends), firsts)


def random_tracks(rng: np.random.Generator, height: int, width: int, number: int) -> list[list[np.ndarray | None]]:
    """Noise, bands, empty and full masks, and none; of unequal length."""
    return [
        [
            None
            if rng.random() < 0.2
            else np.broadcast_to(
                rng.random((height, width) if rng.random() < 0.5 else (1, width)) < rng.choice([0, 0.1, 0.5, 1]),
                (height, width),
            )
            for _ in range(rng.integers(0, 5))
        ]
        for _ in range(number)
    ]


def dense(track: list[np.ndarray | None], frame: int) -> np.ndarray:
    mask = track[frame] if frame < len(track) else None
    return np.zeros((1, 1), bool) if mask is None else mask


def test_overlaps_equal_those_of_pixels(library) -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        height, width = rng.integers(1, 30, 2)
        rows, columns = (random_tracks(rng, height, width, int(rng.integers(1, 5))) for _ in range(2))
        frames = min(max(map(len, rows)), max(map(len, columns)))
        expected = np.array(
            [[[(dense(a, t) & dense(b, t)).sum() for b in columns] for a in rows] for t in range(frames)], np.int64
        ).reshape(frames, len(rows), len(columns))
        packed = tracks_of(rows), tracks_of(columns)
        assert np.array_equal(native_rle.intersections(library, *packed, frames), expected)
        bounds = [np.array([0, len(side)]) for side in (rows, columns)]
        assert np.array_equal(native_rle.totals(library, *packed, *bounds), expected.sum(0).ravel())
        cut = [np.array([0, len(rows) // 2, len(rows)]), np.array([0, len(columns) // 2, len(columns)])]
        parts = [expected[:, cut[0][g] : cut[0][g + 1], cut[1][g] : cut[1][g + 1]].sum(0).ravel() for g in (0, 1)]
        assert np.array_equal(native_rle.totals(library, *packed, *cut), np.concatenate(parts))


def test_boxes_equal_those_of_pixels(library) -> None:
    rng = np.random.default_rng(2)
    for _ in range(150):
        height, width = rng.integers(1, 30, 2)
        tracks = random_tracks(rng, height, width, 3)
        found = native_rle.boxes(library, tracks_of(tracks), [height] * 3, frames=5)
        for track, boxes in zip(tracks, found, strict=True):
            for frame, box in enumerate(boxes.tolist()):
                rows, columns = np.nonzero(dense(track, frame))
                empty = not len(rows)
                assert box == ([0] * 4 if empty else [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_little_data_needs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_rle, "native_kernel", lambda: pytest.fail("built for nothing"))
    monkeypatch.setattr(native_rle, "WORTHWHILE", 1000)
    monkeypatch.setattr(native_rle, "_seen", 0)
    assert native_rle.kernel_for(500) is None and native_rle.kernel_for(499) is None
    monkeypatch.setattr(native_rle, "native_kernel", lambda: native_build.NativeKernel(None, "nothing"))
    assert native_rle.kernel_for(1) is None


def test_without_a_compiler_numpy_does_all_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VISLAB_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setattr(native_rle, "native_kernel", native_rle.native_kernel.__wrapped__)
    monkeypatch.setattr(native_rle, "WORTHWHILE", 0)
    assert "no C++ compiler found" in native_rle.native_kernel().reason
    code = rle.encode(np.eye(5, dtype=bool))
    assert rle.validate_many([code], str).tolist() == [5] and not list(tmp_path.iterdir())
