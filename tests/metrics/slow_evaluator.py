"""Video AP/AR written down a second time, as plain loops over dense masks, for tests to compare with.

Nothing here is shared with vislab: the masks are boolean arrays, a rule is an if, a curve is a list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

AREAS = {"": (0, 1e10), "s": (0, 128**2), "m": (128**2, 256**2), "l": (256**2, 1e10)}
THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


@dataclass
class DenseTrack:
    video: int
    category: int
    masks: list[np.ndarray | None]
    score: float = 0.0
    crowd: bool = False
    areas: list[float | None] = field(default_factory=list)  # ground truth only: what the file says

    @cached_property
    def mask_area(self) -> float:
        return average([None if mask is None else float(mask.sum()) for mask in self.masks])


@dataclass
class DenseSet:
    videos: list[int]
    categories: list[int]
    truths: list[DenseTrack]
    detections: list[DenseTrack]


def track_iou(a: list[np.ndarray | None], b: list[np.ndarray | None]) -> float:
    intersection = union = 0
    for mask_a, mask_b in zip(a, b, strict=False):
        if mask_a is not None and mask_b is not None:
            intersection += int((mask_a & mask_b).sum())
            union += int((mask_a | mask_b).sum())
        elif mask_a is not None:
            union += int(mask_a.sum())
        elif mask_b is not None:
            union += int(mask_b.sum())
    return intersection / union if union else 0.0


def average(areas: list[float | None]) -> float:
    nonzero = [area for area in areas if area]
    return sum(nonzero) / len(nonzero) if nonzero else 0.0


def verdicts(
    truths: list[DenseTrack], ranked: list[DenseTrack], ious: list[list[float]], threshold: float, area: str
) -> tuple[list[str], int]:
    """'hit', 'wrong' or 'ignored' for each detection of one video and category, and how many truths count."""
    low, high = AREAS[area]
    aside = [truth.crowd or not low <= average(truth.areas) <= high for truth in truths]
    visiting_order = [g for g in range(len(truths)) if not aside[g]] + [g for g in range(len(truths)) if aside[g]]
    used: set[int] = set()
    answer = []
    for d, detection in enumerate(ranked):
        best, chosen = threshold, None
        for g in visiting_order:
            if g in used and not truths[g].crowd:
                continue
            if chosen is not None and not aside[chosen] and aside[g]:
                break
            if ious[d][g] >= best:
                best, chosen = ious[d][g], g
        if chosen is not None:
            used.add(chosen)
            answer.append("ignored" if aside[chosen] else "hit")
        else:
            answer.append("wrong" if low <= detection.mask_area <= high else "ignored")
    return answer, aside.count(False)


def curve(
    data: DenseSet, ious: dict, category: int, threshold: float, area: str, limit: int
) -> tuple[float, float] | None:
    """(average precision, recall) of one category, or None without ground truth."""
    listed: list[tuple[float, str]] = []
    total = 0
    for video in sorted(data.videos):
        truths, ranked = cell(data, video, category)
        answer, count = verdicts(truths, ranked, ious[video, category], threshold, area)
        total += count
        listed += [(detection.score, verdict) for detection, verdict in zip(ranked, answer, strict=True)][:limit]
    if total == 0:
        return None
    listed.sort(key=lambda entry: -entry[0])  # stable
    hits = wrong = 0
    precisions, recalls = [], []
    for _, verdict in listed:
        hits += verdict == "hit"
        wrong += verdict == "wrong"
        precisions.append(hits / (hits + wrong) if hits + wrong else 0.0)
        recalls.append(hits / total)
    points = []
    for point in np.linspace(0, 1, 101):
        reached = [i for i, recall in enumerate(recalls) if recall >= point]
        points.append(max(precisions[reached[0] :]) if reached else 0.0)
    return sum(points) / 101, (recalls[-1] if recalls else 0.0)


def cell(data: DenseSet, video: int, category: int) -> tuple[list[DenseTrack], list[DenseTrack]]:
    truths = [track for track in data.truths if (track.video, track.category) == (video, category)]
    found = [track for track in data.detections if (track.video, track.category) == (video, category)]
    return truths, sorted(found, key=lambda track: -track.score)[:100]


def summary(data: DenseSet) -> dict[str, float]:
    ious = {}
    for video in data.videos:
        for category in data.categories:
            truths, ranked = cell(data, video, category)
            ious[video, category] = [[track_iou(d.masks, g.masks) for g in truths] for d in ranked]
    results = {}
    wanted = [("AP", THRESHOLDS, "", 100, 0), ("AP50", [0.5], "", 100, 0), ("AP75", [0.75], "", 100, 0)]
    wanted += [(f"AP{area}", THRESHOLDS, area, 100, 0) for area in "sml"]
    wanted += [(f"AR{limit}", THRESHOLDS, "", limit, 1) for limit in (1, 10, 100)]
    wanted += [(f"AR{area}", THRESHOLDS, area, 100, 1) for area in "sml"]
    for name, thresholds, area, limit, which in wanted:
        curves = [curve(data, ious, category, t, area, limit) for category in data.categories for t in thresholds]
        values = [pair[which] for pair in curves if pair is not None]
        results[name] = sum(values) / len(values) if values else float("nan")
    return results
