"""Overlap of mask tracks, from run-length codes, without decoding a mask.

A track is one run-length code per frame, or None where the instance is absent. Shape letters: N detected tracks,
M labelled tracks, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from vislab.metrics.inputs import Instance


def frame_intersections(detections: Sequence[Instance], truths: Sequence[Instance]) -> np.ndarray:
    """Intersection of every pair in every frame: (T, N, M) int64 pixels, up to the last frame that some pair shares."""
    longest = [max((len(instance.track) for instance in side), default=0) for side in (detections, truths)]
    intersections = np.zeros((min(longest), len(detections), len(truths)), np.int64)
    for frame, overlap in enumerate(intersections):
        rows, columns = _present(detections, frame), _present(truths, frame)
        if not rows or not columns:
            continue
        # The crowd flag makes pycocotools divide by the detection's area alone, so that one product, rounded, gives the
        # integer back exactly.
        codes = [[side[i].track[frame] for i in chosen] for side, chosen in ((detections, rows), (truths, columns))]
        share = coco_mask.iou(*codes, [1] * len(columns))
        areas = np.array([detections[n].mask_areas[frame] for n in rows])
        overlap[np.ix_(rows, columns)] = np.rint(share * areas[:, None])
    return intersections


def _present(instances: Sequence[Instance], frame: int) -> list[int]:
    return [
        i for i, instance in enumerate(instances) if frame < len(instance.track) and instance.track[frame] is not None
    ]


def video_iou(detections: Sequence[Instance], truths: Sequence[Instance]) -> np.ndarray:
    """Spatio-temporal IoU: sum of intersections over sum of unions (Yang et al., 2019; ytvoseval.py:196-218).

    A frame where only one of the two has a mask adds that mask to the union. A pair is compared over the shorter of its
    two lists. An empty union gives 0.

    Returns:
        (N, M) float64 in [0, 1].
    """
    intersections = frame_intersections(detections, truths).sum(0)
    lengths = np.minimum.outer(_lengths(detections), _lengths(truths))
    unions = _areas_until(detections, lengths) + _areas_until(truths, lengths.T).T - intersections
    return np.divide(intersections, unions, out=np.zeros(lengths.shape), where=unions > 0)


def _lengths(instances: Sequence[Instance]) -> np.ndarray:
    return np.array([len(instance.track) for instance in instances], np.int64)


def _areas_until(instances: Sequence[Instance], lengths: np.ndarray) -> np.ndarray:
    """Pixels of instance i over its first lengths[i, j] frames."""
    sums = [np.append(0, np.cumsum(instance.mask_areas))[row] for instance, row in zip(instances, lengths, strict=True)]
    return np.array(sums, np.int64).reshape(lengths.shape)
