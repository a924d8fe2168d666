"""The 12 statistics of AP and AR, in Python over pycocotools, with the steps of the published YouTube-VIS evaluator.

It does what that tool (youtubevos/cocoapi f3f9948, ytvos.py and ytvoseval.py), which does not run on current numpy,
does, step by step: areas and boxes of all detected masks; then, for each category and video, two merges and two areas
per pair of tracks and frame; then, for each category, range of areas and video, a matching that loops over thresholds,
detections and objects; then, for each category, range and limit, a curve whose points are visited one by one.

Only masks as compressed run-length codes, and no crowds: what the benchmark has.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {"": (0.0, 1e10), "s": (0.0, 128.0**2), "m": (128.0**2, 256.0**2), "l": (256.0**2, 1e10)}
LIMITS = (1, 10, 100)

Track = dict[str, Any]
Cells = dict[tuple[int, int], list[Track]]  # by video and category


class Verdicts(NamedTuple):
    """Of the N detections of one video and category, in one range of areas, at each of I thresholds."""

    scores: np.ndarray  # (N,)
    matched: np.ndarray  # (I, N)
    ignored: np.ndarray  # (I, N)
    objects: int  # that count


def plain_ap(ground_truth: Path, results: Path) -> dict[str, float]:
    """The statistics by the names of `vislab.evaluate`; NaN where they are undefined."""
    gt, found = json.loads(ground_truth.read_text()), json.loads(results.read_text())
    for detection in found:
        masks = detection["segmentations"]
        detection["areas"] = [None if mask is None else coco_mask.area(mask) for mask in masks]
        detection["bboxes"] = [None if mask is None else coco_mask.toBbox(mask) for mask in masks]
    labelled, detected = grouped(gt["annotations"]), grouped(found)
    videos = sorted(video["id"] for video in gt["videos"])
    precision, recall = {}, {}
    for category in (category["id"] for category in gt["categories"]):
        ranked = {video: best(detected[video, category]) for video in videos}
        ious = {video: track_ious(ranked[video], labelled[video, category]) for video in videos}
        for name, bounds in AREAS.items():
            own = [verdicts(labelled[video, category], ranked[video], ious[video], bounds) for video in videos]
            cells = [cell for cell in own if cell is not None]
            for limit in LIMITS:
                precision[category, name, limit], recall[category, name, limit] = curve(cells, limit)
    return summary(precision, recall)


def grouped(tracks: Sequence[Track]) -> Cells:
    cells: Cells = defaultdict(list)
    for track in tracks:
        areas = [area for area in track["areas"] if area]
        track["mean_area"] = np.array(areas).mean() if areas else 0.0
        cells[track["video_id"], track["category_id"]].append(track)
    return cells


def best(detections: Sequence[Track]) -> list[Track]:
    order = np.argsort([-detection["score"] for detection in detections], kind="mergesort")
    return [detections[i] for i in order[: LIMITS[-1]]]


def track_ious(detections: Sequence[Track], truths: Sequence[Track]) -> np.ndarray:
    ious = np.zeros((len(detections), len(truths)))
    for i, detection in enumerate(detections):
        for j, truth in enumerate(truths):
            ious[i, j] = track_iou(detection["segmentations"], truth["segmentations"])
    return ious


def track_iou(first: Sequence[dict | None], second: Sequence[dict | None]) -> float:
    shared = either = 0.0
    for a, b in zip(first, second, strict=False):
        if a and b:
            shared += coco_mask.area(coco_mask.merge([a, b], True))
            either += coco_mask.area(coco_mask.merge([a, b], False))
        elif a or b:
            either += coco_mask.area(a or b)
    return shared / either if either else 0.0


def verdicts(
    truths: Sequence[Track], detections: Sequence[Track], ious: np.ndarray, bounds: tuple[float, float]
) -> Verdicts | None:
    """None where there is nothing."""
    if not truths and not detections:
        return None
    outside = np.array([not bounds[0] <= truth["mean_area"] <= bounds[1] for truth in truths], bool)
    order = np.argsort(outside, kind="mergesort")  # objects that count come first
    taken = np.zeros((len(THRESHOLDS), len(truths)), bool)
    matched, ignored = np.zeros((2, len(THRESHOLDS), len(detections)), bool)
    for row, threshold in enumerate(THRESHOLDS):
        for n in range(len(detections)):
            least, partner = min(threshold, 1 - 1e-10), -1
            for g in order:
                if taken[row, g]:
                    continue
                if partner >= 0 and not outside[partner] and outside[g]:
                    break
                if ious[n, g] >= least:
                    least, partner = ious[n, g], g
            if partner >= 0:
                taken[row, partner] = matched[row, n] = True
                ignored[row, n] = outside[partner]
    beyond = np.array([not bounds[0] <= detection["mean_area"] <= bounds[1] for detection in detections], bool)
    scores = np.array([detection["score"] for detection in detections])
    return Verdicts(scores, matched, ignored | (~matched & beyond), int((~outside).sum()))


def curve(cells: Sequence[Verdicts], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean precision and last recall at each threshold: (I,), (I,); NaN without objects."""
    precisions, recalls = np.full((2, len(THRESHOLDS)), np.nan)
    objects = sum(cell.objects for cell in cells)
    if not objects:
        return precisions, recalls
    order = np.argsort(-np.concatenate([cell.scores[:limit] for cell in cells]), kind="mergesort")
    matched = np.concatenate([cell.matched[:, :limit] for cell in cells], 1)[:, order]
    ignored = np.concatenate([cell.ignored[:, :limit] for cell in cells], 1)[:, order]
    right, wrong = np.cumsum(matched & ~ignored, 1, float), np.cumsum(~matched & ~ignored, 1, float)
    for row, (hits, misses) in enumerate(zip(right, wrong, strict=True)):
        reached = hits / objects
        precision = (hits / (hits + misses + np.spacing(1))).tolist()
        for i in range(len(precision) - 1, 0, -1):
            precision[i - 1] = max(precision[i - 1], precision[i])
        points = np.zeros(len(RECALLS)).tolist()
        for point, entry in enumerate(np.searchsorted(reached, RECALLS)):
            if entry < len(precision):
                points[point] = precision[entry]
        precisions[row] = np.mean(points)
        recalls[row] = reached[-1] if len(reached) else 0.0
    return precisions, recalls


def summary(
    precision: dict[tuple[int, str, int], np.ndarray], recall: dict[tuple[int, str, int], np.ndarray]
) -> dict[str, float]:
    def mean(table: dict[tuple[int, str, int], np.ndarray], area: str, limit: int, rows: slice = slice(None)) -> float:
        values = np.array([value[rows] for key, value in table.items() if key[1:] == (area, limit)])
        defined = values[~np.isnan(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    values = {"AP": mean(precision, "", 100)}
    values |= {"AP50": mean(precision, "", 100, slice(0, 1)), "AP75": mean(precision, "", 100, slice(5, 6))}
    values |= {f"AP{area}": mean(precision, area, 100) for area in "sml"}
    values |= {f"AR{limit}": mean(recall, "", limit) for limit in LIMITS}
    return values | {f"AR{area}": mean(recall, area, 100) for area in "sml"}
