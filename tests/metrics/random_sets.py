"""Random data sets for the metric tests: dense ones, and the same as YouTube-VIS JSON."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pycocotools import mask as coco_mask
from slow_evaluator import DenseSet, DenseTrack

SIDE = 300  # large enough for masks of all three area ranges


def random_mask(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    height, width = rng.integers(1, rng.choice([30, 200, 298]), 2)
    top, left = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
    mask[top : top + height, left : left + width] = True
    return mask


def shaken(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(mask, rng.integers(-12, 13, 2), (0, 1)) if rng.random() < 0.8 else mask


def random_masks(rng: np.random.Generator, length: int) -> list[np.ndarray | None]:
    base = random_mask(rng)
    kinds = rng.choice(["mask", "empty", "absent"], length, p=[0.75, 0.1, 0.15])
    return [None if k == "absent" else np.zeros_like(base) if k == "empty" else shaken(base, rng) for k in kinds]


def random_truth(rng: np.random.Generator, video: int, category: int, length: int, crowds: bool) -> DenseTrack:
    masks = random_masks(rng, length)
    areas = [None if mask is None else float(mask.sum()) for mask in masks]
    if rng.random() < 0.3:  # the file's areas count, not those of its masks; bounds belong to both ranges
        areas = [float(rng.choice([128**2, 256**2, 50, 40_000, 70_000])) if area else area for area in areas]
    return DenseTrack(video, category, masks, crowd=bool(crowds and rng.random() < 0.25), areas=areas)


def random_detection(rng: np.random.Generator, video: int, category: int, length: int, truths: list) -> DenseTrack:
    if truths and rng.random() < 0.75:
        source = truths[rng.integers(len(truths))].masks
        masks = [None if m is None or rng.random() < 0.1 else shaken(m, rng) for m in source]
        if length < len(masks):
            masks = masks[:length]
    else:
        masks = random_masks(rng, length)
    score = float(rng.choice([0.1, 0.5, 0.9])) if rng.random() < 0.5 else float(rng.random())
    return DenseTrack(video, category, masks, score=score)


def random_set(seed: int, *, one_frame: bool = False, crowds: bool = True) -> DenseSet:
    """1 to 3 videos and categories; ids in any order and from 0; ties of score and of IoU; nothing at all in places.

    one_frame: every video has one frame, and each detection of it one too.
    """
    rng = np.random.default_rng(seed)
    videos = [int(v) for v in rng.permutation(12)[: rng.integers(1, 4)]]
    categories = [int(c) for c in rng.permutation(7)[: rng.integers(1, 4)]]
    data = DenseSet(videos, categories, [], [])
    many = 25 if rng.random() < 0.1 else 5
    for video in videos:
        length = 1 if one_frame else int(rng.integers(1, 5))
        for category in categories:
            truths = [random_truth(rng, video, category, length, crowds) for _ in range(rng.choice([0, 0, 1, 3]))]
            if truths and rng.random() < 0.2:  # two equal overlaps
                truths.append(truths[0])
            other = length if one_frame or rng.random() < 0.7 else max(0, length + int(rng.integers(-2, 3)))
            data.truths += truths
            for _ in range(rng.integers(0, many)):
                data.detections.append(random_detection(rng, video, category, other, truths))
    data.truths = [data.truths[i] for i in rng.permutation(len(data.truths))]
    data.detections = [data.detections[i] for i in rng.permutation(len(data.detections))]
    return data


def with_copies(data: DenseSet, copies: dict[int, int]) -> DenseSet:
    """Every video as often as `copies` says, under ids in a row."""

    def copied(tracks: list[DenseTrack]) -> list[DenseTrack]:
        return [replace(track, video=100 * track.video + i) for track in tracks for i in range(copies[track.video])]

    videos = [100 * video + i for video in data.videos for i in range(copies[video])]
    return DenseSet(videos, data.categories, copied(data.truths), copied(data.detections))


def code(mask: np.ndarray | None, kind: str = "compressed") -> dict | None:
    if mask is None:
        return None
    if kind == "runs":
        pixels = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(pixels.astype(np.int8), prepend=0)).tolist()
        return {"size": list(mask.shape), "counts": np.diff([0, *edges, pixels.size]).tolist()}
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def to_json(data: DenseSet) -> tuple[dict, list[dict]]:
    """Ground truth and results in the YouTube-VIS format; half of the ground truth with uncompressed counts."""
    gt = {
        "videos": [{"id": video, "height": SIDE, "width": SIDE} for video in data.videos],
        "categories": [{"id": category, "name": f"kind {category}"} for category in data.categories],
        "annotations": [
            {
                "id": index,
                "video_id": track.video,
                "category_id": track.category,
                "iscrowd": int(track.crowd),
                "segmentations": [code(mask, "runs" if index % 2 else "compressed") for mask in track.masks],
                "areas": track.areas,
            }
            for index, track in enumerate(data.truths)
        ],
    }
    results = [
        {
            "video_id": track.video,
            "category_id": track.category,
            "score": track.score,
            "segmentations": [code(mask) for mask in track.masks],
        }
        for track in data.detections
    ]
    return gt, results
