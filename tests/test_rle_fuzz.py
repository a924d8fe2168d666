"""Fuzz of the RLE codec against a plain decoder and pycocotools, in a process of its own.

A crash or a hang there is a failing test here. By hand: `python tests/test_rle_fuzz.py strings 1000000 SEED native`.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vislab import native_rle, rle
from vislab.errors import UserError

ALPHABET = [chr(code) for code in range(48, 112)]
BATCH = 500


def run(what: str, count: int, path: str = "numpy") -> Counter[str]:
    """What the fuzzing process counted."""
    if path == "native" and native_rle.native_kernel().library is None:
        pytest.skip(native_rle.native_kernel().reason)
    command = [sys.executable, "-X", "faulthandler", __file__, what, str(count), "0", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600 + count / 50)
    assert done.returncode == 0, done.stderr[-3000:]
    return Counter({name: int(number) for name, number in (line.split() for line in done.stdout.splitlines())})


@pytest.mark.parametrize("path", ["numpy", "native"])
@pytest.mark.parametrize("count", [4_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_strings_decode_as_defined_or_are_refused(count: int, path: str) -> None:
    seen = run("strings", count, path)
    assert seen["accepted"] + seen["refused"] == count
    assert min(seen["accepted"], seen["refused"]) > count / 4, "the fuzz must reach both"


@pytest.mark.parametrize("path", ["numpy", "native"])
@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_masks_are_byte_identical_to_pycocotools(count: int, path: str) -> None:
    assert run("masks", count, path)["identical"] == count


@pytest.mark.parametrize("count", [200, pytest.param(50_000, marks=pytest.mark.slow)])
def test_polygons_rasterise_or_are_refused(count: int) -> None:
    seen = run("polygons", count)
    assert seen["accepted"] + seen["refused"] == count and min(seen["accepted"], seen["refused"]) > count / 10


def plain_runs(counts: str, pixels: int) -> list[int] | None:
    """Runs by the letter of the format, one character after the other; None if they do not make a mask."""
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64:
            return None
        value += (group % 32) << shift
        shift += 5
        if group >= 32:
            continue
        if group >= 16:
            value -= 1 << shift
        if shift > 30:  # the codec's own limit: 6 characters for a number
            return None
        runs.append(value + (runs[-2] if len(runs) >= 3 else 0))
        value = shift = 0
    return runs if not shift and runs and min(runs) >= 0 and sum(runs) == pixels else None


def plain_mask(runs: list[int], height: int, width: int) -> np.ndarray:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def number(value: int, padding: int = 0) -> str:
    """A stored number, with superfluous characters at its end."""
    text = ""
    while True:
        group, value = value & 31, value >> 5
        done = value == (-1 if group & 16 else 0)
        if done and not padding:
            return text + ALPHABET[group]
        padding -= done
        text += ALPHABET[group | 32]


def random_mask(rng: random.Random, largest: int) -> np.ndarray:
    """Noise of any density, or upright bands."""
    height, width = rng.randint(1, largest), rng.randint(1, largest)
    generator = np.random.default_rng(rng.getrandbits(32))
    noise = generator.random((height, width) if rng.random() < 0.5 else (1, width)) < rng.random()
    return np.broadcast_to(noise, (height, width))


def valid(rng: random.Random) -> tuple[str, int, int]:
    mask = random_mask(rng, 100 if rng.random() < 0.02 else 12)
    return rle.encode(mask)["counts"], *mask.shape


def loose(rng: random.Random) -> tuple[str, int, int]:
    """Any runs, empty ones too, with numbers longer than they need be."""
    runs = [rng.choice((0, 0, 1, 2, 3, 40, 1000)) for _ in range(rng.randint(1, 9))]
    runs[-1] += not sum(runs)
    numbers = [run - (runs[i - 2] if i > 2 else 0) for i, run in enumerate(runs)]
    sides = [side for side in range(1, sum(runs) + 1) if sum(runs) % side == 0]
    height = rng.choice(sides)
    return "".join(number(n, rng.choice((0, 0, 0, 1, 4))) for n in numbers), height, sum(runs) // height


def mutated(rng: random.Random) -> tuple[str, int, int]:
    counts, height, width = valid(rng)
    characters = list(counts)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(characters) + 1)
        characters[place : place + rng.randint(0, 1)] = rng.choices(ALPHABET, k=rng.randint(0, 2))
    return "".join(characters), height, width


def shifted(rng: random.Random) -> tuple[str, int, int]:
    """A pixel more in one place and one less in another: often another mask of the same size."""
    counts, height, width = valid(rng)
    characters = list(counts)
    for step in (1, -1):
        place = rng.randrange(len(characters))
        characters[place] = ALPHABET[(ord(characters[place]) - 48 + step) % 64]
    return "".join(characters), height, width


def truncated(rng: random.Random) -> tuple[str, int, int]:
    counts, height, width = valid(rng)
    return counts[: rng.randrange(len(counts) + 1)], height, width


def huge(rng: random.Random) -> tuple[str, int, int]:
    """Numbers at the edges of 16, 32 and 64 bits, some of which cancel out."""
    edges = [2**power + step for power in (15, 28, 29, 30, 31, 32, 62, 63, 64) for step in (-1, 0, 1)]
    values = [rng.choice((-1, 1)) * rng.choice(edges) for _ in range(rng.randint(1, 3))]
    values += [-value for value in values if rng.random() < 0.5]
    counts, height, width = valid(rng)
    place = rng.randrange(len(counts) + 1)
    return counts[:place] + "".join(map(number, values)) + counts[place:], height, width


def resized(rng: random.Random) -> tuple[str, int, int]:
    counts, height, width = valid(rng)
    return counts, max(1, height + rng.randint(-1, 1)), max(1, width + rng.randint(-1, 1))


def arbitrary(rng: random.Random) -> tuple[str, int, int]:
    letters: Callable[[], str] = rng.choice(
        (
            lambda: rng.choice(ALPHABET),
            lambda: chr(rng.randrange(256)),
            lambda: chr(rng.randrange(0x110000)),  # surrogates too
            lambda: rng.choice("0123\0 p/\n"),
        )
    )
    return "".join(letters() for _ in range(rng.randint(0, 30))), rng.randint(1, 9), rng.randint(1, 9)


KINDS = (valid, valid, loose, loose, mutated, shifted, truncated, huge, resized, arbitrary)


def fuzz_strings(rng: random.Random, count: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    batch: list[tuple[rle.RLE, int]] = []
    for _ in range(count):
        counts, height, width = rng.choice(KINDS)(rng)
        runs = plain_runs(counts, height * width)
        found = found_mask(counts if rng.random() < 0.8 else as_bytes(counts), height, width)
        assert (found is None) == (runs is None), (counts, height, width, runs)
        seen["refused" if found is None else "accepted"] += 1
        if found is not None and runs is not None:
            assert np.array_equal(found, plain_mask(runs, height, width)), (counts, height, width)
            batch.append(({"size": [height, width], "counts": counts}, sum(runs[1::2])))
        if len(batch) == BATCH:
            check_batch(batch, rng)
            batch = []
    return seen


def as_bytes(counts: str) -> bytes | str:
    return counts.encode("latin-1") if all(ord(character) < 256 for character in counts) else counts


def found_mask(counts: str | bytes, height: int, width: int) -> np.ndarray | None:
    try:
        code = rle.normalise({"size": [height, width], "counts": counts}, height, width)
    except UserError:
        return None
    assert coco_mask.iou([code], [code], [0]).item() == float(rle.area(code) > 0), counts
    return rle.decode_checked(code)


def check_batch(batch: list[tuple[rle.RLE, int]], rng: random.Random) -> None:
    """Many at once: the same areas, and a broken one among them is named."""
    codes = [dict(code) for code, _ in batch]
    assert rle.validate_many(codes, str).tolist() == [area for _, area in batch]
    broken = rng.randrange(BATCH)
    codes[broken] = codes[broken] | {"counts": rng.choice(("", "P", "\ud800", "1/", "O", "02@", "00000000o"))}
    codes[broken]["size"] = [7, 13]
    try:
        rle.validate_many(codes, lambda i: f"code {i}")
    except UserError as error:
        assert str(error).startswith(f"code {broken}: "), error
    else:
        raise AssertionError(codes[broken])


def fuzz_masks(rng: random.Random, count: int) -> Counter[str]:
    for index in range(count):
        mask = random_mask(rng, 300 if index % 100 == 0 else 24)
        expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        code = rle.encode(mask)
        assert code == {"size": list(mask.shape), "counts": expected["counts"].decode()}, code
        assert rle.normalise(expected, *mask.shape) == code
        assert np.array_equal(rle.decode(code, *mask.shape), coco_mask.decode(expected).astype(bool))
        assert rle.area(code) == mask.sum()
    return Counter(identical=count)


def fuzz_polygons(rng: random.Random, count: int) -> Counter[str]:
    """Whatever is accepted must come out as a whole mask; the largest images have the longest outlines."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        height, width = (rng.choice((1, 2, 7, 40, rle.MAX_SIDE)) for _ in range(2))
        polygons = [random_polygon(rng, height, width) for _ in range(rng.randint(0, 3))]
        try:
            code = rle.normalise(polygons, height, width)
        except UserError:
            seen["refused"] += 1
            continue
        seen["accepted"] += 1
        if height * width < 10_000:
            assert rle.decode_checked(code).sum() == rle.area(code)
    return seen


def random_polygon(rng: random.Random, height: int, width: int) -> list[Any]:
    wild = (float("nan"), float("inf"), -1e308, 2**31, 10**400, -height - 1, 2 * width + 1, True, "1", None)
    polygon: list[Any] = [
        rng.choice((0, -side, 2 * side, side, rng.uniform(-side, 2 * side)))
        for _ in range(rng.randint(3, 40))
        for side in (width, height)
    ]
    if rng.random() < 0.15:
        polygon[rng.randrange(len(polygon))] = rng.choice(wild)
    return polygon[: rng.choice((len(polygon), len(polygon), len(polygon), len(polygon), 4, 5))]


if __name__ == "__main__":
    native_rle.WORTHWHILE = 0 if sys.argv[4] == "native" else math.inf  # type: ignore[assignment]
    fuzz = {"strings": fuzz_strings, "masks": fuzz_masks, "polygons": fuzz_polygons}[sys.argv[1]]
    for name, total in fuzz(random.Random(int(sys.argv[3])), int(sys.argv[2])).items():
        print(name, total)
