"""Random ground truth and results of the size of YouTube-VIS 2019's validation set.

Masks are blobs with a wavy outline that drift through the video; results are labelled tracks, shaken by three strengths
of noise, a quarter of them with a random category. Nothing is drawn: the runs come from the outline of each column.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vislab import rle

HEIGHT, WIDTH, FRAMES, CATEGORIES = 360, 640, 28, 40
VIDEOS, TRACKS, PREDICTIONS = 302, 736, 10  # videos, labelled tracks in all of them, predictions per video


class Files(NamedTuple):
    ground_truth: Path
    results: Path


class Blob(NamedTuple):
    """Centre, radii and speed in pixels, phase of the outline, category."""

    x: float
    y: float
    width: float
    height: float
    right: float
    down: float
    phase: float
    category: int


def make(folder: Path, videos: int, seed: int = 0) -> Files:
    """Write both files; the numbers of tracks are in proportion to the videos."""
    rng = np.random.default_rng(seed)
    tracks = max(videos, round(TRACKS * videos / VIDEOS))
    numbers = 1 + np.bincount(rng.integers(videos, size=tracks - videos), minlength=videos)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for video, number in enumerate(numbers.tolist(), 1):
        blobs = [random_blob(rng) for _ in range(number)]
        annotations += [annotation(blob, video, rng) | {"id": len(annotations) + i} for i, blob in enumerate(blobs, 1)]
        results += [prediction(blobs, n, video, rng) for n in range(PREDICTIONS)]
    truth = {
        "videos": [
            {"id": video, "height": HEIGHT, "width": WIDTH, "length": FRAMES, "file_names": frame_names(video)}
            for video in range(1, videos + 1)
        ],
        "categories": [{"id": category, "name": f"kind {category}"} for category in range(1, CATEGORIES + 1)],
        "annotations": annotations,
    }
    files = Files(folder / "ground_truth.json", folder / "results.json")
    files.ground_truth.write_text(json.dumps(truth))
    files.results.write_text(json.dumps(results))
    return files


def frame_names(video: int) -> list[str]:
    return [f"video{video:04d}/{frame:05d}.jpg" for frame in range(FRAMES)]


def random_blob(rng: np.random.Generator) -> Blob:
    x, y = rng.uniform((80, 60), (WIDTH - 80, HEIGHT - 60)).tolist()
    width, height = rng.uniform((20, 20), (150, 110)).tolist()
    right, down = rng.normal(0, (4, 2)).tolist()
    return Blob(x, y, width, height, right, down, float(rng.uniform(0, 6)), category(rng))


def category(rng: np.random.Generator) -> int:
    return int(rng.integers(1, CATEGORIES + 1))


def annotation(blob: Blob, video: int, rng: np.random.Generator) -> dict[str, Any]:
    """A labelled track, absent in 8 % of the frames."""
    masks = [mask if rng.random() > 0.08 else None for mask in track(blob, 0, rng)]
    return {
        "video_id": video,
        "category_id": blob.category,
        "iscrowd": 0,
        "height": HEIGHT,
        "width": WIDTH,
        "segmentations": masks,
        "areas": [None if mask is None else rle.area(mask) for mask in masks],
    }


def prediction(blobs: list[Blob], number: int, video: int, rng: np.random.Generator) -> dict[str, Any]:
    """The first of each object scores high, the others low."""
    blob = blobs[number % len(blobs)]
    return {
        "video_id": video,
        "category_id": category(rng) if rng.random() < 0.25 else blob.category,
        "score": float(rng.beta(3, 2) if number < len(blobs) else rng.beta(1, 4)),
        "segmentations": track(blob, float(rng.choice([2, 8, 25])), rng),
    }


def track(blob: Blob, noise: float, rng: np.random.Generator) -> list[rle.RLE | None]:
    masks = []
    for frame in range(FRAMES):
        shift = rng.normal(0, noise, 4)
        masks.append(
            mask(
                blob.x + blob.right * frame + shift[0],
                blob.y + blob.down * frame + shift[1],
                max(4, blob.width + shift[2]),
                max(4, blob.height + shift[3]),
                blob.phase,
            )
        )
    return masks


def mask(x: float, y: float, width: float, height: float, phase: float) -> rle.RLE | None:
    """Run-length code of one blob, None if none of it is in the image."""
    columns = np.arange(WIDTH)
    inside = 1 - ((columns - x) / width) ** 2
    reach = height * np.sqrt(np.clip(inside, 0, None)) * (1 + 0.1 * np.sin(columns / 7 + phase))
    top, bottom = (np.clip(np.rint(y + sign * reach), 0, HEIGHT).astype(np.int64) for sign in (-1, 1))
    seen = (inside > 0) & (bottom > top)
    if not seen.any():
        return None
    edges = (columns[seen, None] * HEIGHT + np.stack([top[seen], bottom[seen]], 1)).ravel()
    runs = np.diff(edges, prepend=0, append=HEIGHT * WIDTH)
    return rle.normalise({"size": [HEIGHT, WIDTH], "counts": runs.tolist()}, HEIGHT, WIDTH)
