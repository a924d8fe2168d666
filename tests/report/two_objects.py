"""Ground truth and results of objects at the left and at the right of a small picture."""

from __future__ import annotations

import numpy as np

from vislab import rle
from vislab.metrics.inputs import GroundTruth, read_ground_truth, read_results

LEFT, RIGHT = (slice(0, 20), slice(0, 10)), (slice(0, 20), slice(20, 30))


def mask(window: tuple[slice, slice] | None) -> dict | None:
    if window is None:
        return None
    picture = np.zeros((20, 30), bool)
    picture[window] = True
    return rle.encode(picture)


def truth(*tracks: list, crowd: int = 0) -> GroundTruth:
    annotations = [
        {
            "id": number, "video_id": 5, "category_id": 1 + number % 2, "iscrowd": crowd, "areas": [None] * len(track),
            "segmentations": [mask(window) for window in track],
        }
        for number, track in enumerate(tracks)
    ]  # fmt: skip
    videos = [{"id": number, "height": 20, "width": 30, "length": 2} for number in (5, 6)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return read_ground_truth({"videos": videos, "categories": categories, "annotations": annotations})


def predictions(labels: GroundTruth, *found: tuple[float, list], video_id: int = 5) -> list:
    results = [
        {"video_id": video_id, "category_id": 2, "score": score, "segmentations": [mask(window) for window in track]}
        for score, track in found
    ]
    return read_results(results, labels)
