"""MOT consistency by motmetrics, as its manual shows: an accumulator per video, fed frame by frame.

Boxes come from pycocotools; distances are our own, as motmetrics 1.4.0's helper fails on numpy 2. Equal overlaps of
boxes are not rare, and its choice among them depends on the order of the tracks: here it is that of `frame_overlap`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import motmetrics
import numpy as np
from pycocotools import mask as coco_mask

NAMES = {"idf1": "IDF1", "idp": "IDP", "idr": "IDR", "mota": "MOTA", "num_switches": "IDs"}


def plain_mot(ground_truth: Path, results: Path, threshold: float) -> dict[str, float]:
    """The measures by the names of `vislab.evaluate`, of the detections with at least so high a score."""
    gt, found = json.loads(ground_truth.read_text()), json.loads(results.read_text())
    sides: list[dict[int, list[list]]] = [defaultdict(list), defaultdict(list)]
    truths = sorted(gt["annotations"], key=lambda each: (each["category_id"], content(each)))
    kept = [each for each in found if each["score"] >= threshold]
    kept.sort(key=lambda each: (-each["score"], each["category_id"], content(each)))
    for side, tracks in zip(sides, (truths, kept), strict=True):
        for track in tracks:
            side[track["video_id"]].append(track["segmentations"])
    accumulators = [
        accumulated(sides[0][video["id"]], sides[1][video["id"]], video["length"]) for video in gt["videos"]
    ]
    with motmetrics.lap.set_default_solver("scipy"):
        table = motmetrics.metrics.create().compute_many(accumulators, metrics=list(NAMES), generate_overall=True)
    return {ours: float(table[theirs].iloc[-1]) for theirs, ours in NAMES.items()}


def content(track: dict) -> str:
    return "".join(mask["counts"] for mask in track["segmentations"] if mask)


def accumulated(truths: list[list], found: list[list], length: int) -> motmetrics.MOTAccumulator:
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for frame in range(length):
        present = [[i for i, track in enumerate(side) if track[frame]] for side in (truths, found)]
        boxes = [
            np.array([coco_mask.toBbox(side[i][frame]) for i in ids]).reshape(-1, 4)
            for side, ids in zip((truths, found), present, strict=True)
        ]
        accumulator.update(*present, distances(*boxes))
    return accumulator


def distances(truths: np.ndarray, found: np.ndarray) -> np.ndarray:
    """1 - IoU of boxes x, y, width, height; NaN below an IoU of 0.5."""
    start = np.maximum(truths[:, None, :2], found[None, :, :2])
    stop = np.minimum(truths[:, None, :2] + truths[:, None, 2:], found[None, :, :2] + found[None, :, 2:])
    shared = np.maximum(stop - start, 0).prod(-1)
    ious = shared / (truths[:, 2:].prod(-1)[:, None] + found[:, 2:].prod(-1) - shared)
    return np.where(ious >= 0.5, 1 - ious, np.nan)
