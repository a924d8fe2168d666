"""Overlap of mask tracks, from run-length codes, without decoding a mask.

A track is one run-length code per frame, or None where the instance is absent. Shape letters: N detected tracks,
M labelled tracks, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from vislab import native_rle
from vislab.metrics.inputs import Instance

Pair = tuple[Sequence[Instance], Sequence[Instance]]  # the detections and the labelled tracks of some group


def frame_intersections(detections: Sequence[Instance], truths: Sequence[Instance]) -> np.ndarray:
    """Intersection of every pair in every frame: (T, N, M) int64 pixels, up to the last frame that some pair shares.

    By the native kernel once there is much to do (`native_rle`), else by pycocotools; with the same result.
    """
    frames = min(max((instance.length for instance in side), default=0) for side in (detections, truths))
    library = native_rle.kernel_for(_characters(detections) + _characters(truths))
    if library is None or not frames:
        return _plain_intersections(detections, truths, frames)
    return native_rle.intersections(library, packed(detections), packed(truths), frames)


def packed(instances: Sequence[Instance]) -> native_rle.Tracks:
    """The masks of at least one instance as the native kernel takes them."""
    firsts = np.cumsum([0, *(instance.length for instance in instances)])
    ends = np.concatenate([instance.ends for instance in instances])
    return native_rle.Tracks([instance.counts for instance in instances], ends, firsts)


def _characters(instances: Sequence[Instance]) -> int:
    return sum(len(instance.counts) for instance in instances)


def _plain_intersections(detections: Sequence[Instance], truths: Sequence[Instance], frames: int) -> np.ndarray:
    intersections = np.zeros((frames, len(detections), len(truths)), np.int64)
    tracks = [[instance.track for instance in side] for side in (detections, truths)]
    for frame, overlap in enumerate(intersections):
        rows, columns = ([i for i, track in enumerate(side) if frame < len(track) and track[frame]] for side in tracks)
        if not rows or not columns:
            continue
        # The crowd flag makes pycocotools divide by the detection's area alone, so that one product, rounded, gives the
        # integer back exactly.
        codes = [[side[i][frame] for i in chosen] for side, chosen in zip(tracks, (rows, columns), strict=True)]
        share = coco_mask.iou(*codes, [1] * len(columns))
        areas = np.array([detections[n].mask_areas[frame] for n in rows])
        overlap[np.ix_(rows, columns)] = np.rint(share * areas[:, None])
    return intersections


def video_iou(detections: Sequence[Instance], truths: Sequence[Instance]) -> np.ndarray:
    """Spatio-temporal IoU: sum of intersections over sum of unions (Yang et al., 2019; ytvoseval.py:196-218).

    A frame where only one of the two has a mask adds that mask to the union. A pair is compared over the shorter of its
    two lists. An empty union gives 0.

    Returns:
        (N, M) float64 in [0, 1].
    """
    return video_ious([(detections, truths)])[0]


def video_ious(groups: Sequence[Pair]) -> list[np.ndarray]:
    """`video_iou` of several groups, which is faster at once."""
    sides = [[group[side] for group in groups] for side in (0, 1)]
    sizes = [np.array([len(instances) for instances in side], np.int64) for side in sides]
    bounds = [np.cumsum(np.append(0, each)) for each in sizes]
    ends = np.cumsum(sizes[0] * sizes[1])
    group = np.repeat(np.arange(len(groups)), sizes[0] * sizes[1])
    place = np.arange(len(group)) - (ends - sizes[0] * sizes[1])[group]  # in the table of its group, row by row
    pairs = [bounds[0][group] + place // sizes[1][group], bounds[1][group] + place % sizes[1][group]]
    tracks = [[instance for instances in side for instance in instances] for side in sides]
    lengths = np.minimum(*(_lengths(side)[own] for side, own in zip(tracks, pairs, strict=True)))
    shared = _shared(groups, tracks, bounds)
    unions = sum(_areas_until(side, own, lengths) for side, own in zip(tracks, pairs, strict=True)) - shared
    flat = np.divide(shared, unions, out=np.zeros(len(group)), where=unions > 0)
    shapes = zip(*(each.tolist() for each in sizes), strict=True)
    return [flat[end - n * m : end].reshape(n, m) for end, (n, m) in zip(ends.tolist(), shapes, strict=True)]


def _shared(groups: Sequence[Pair], tracks: Sequence[Sequence[Instance]], bounds: Sequence[np.ndarray]) -> np.ndarray:
    """Pixels that the two tracks of each pair share, group by group; tracks: of all groups, from `bounds` on."""
    library = native_rle.kernel_for(sum(map(_characters, tracks)))
    if library is None or not all(tracks):
        parts = [frame_intersections(*group).sum(0).ravel() for group in groups]
        return np.concatenate([np.zeros(0, np.int64), *parts])
    return native_rle.totals(library, packed(tracks[0]), packed(tracks[1]), bounds[0], bounds[1])


def _lengths(instances: Sequence[Instance]) -> np.ndarray:
    return np.array([instance.length for instance in instances], np.int64)


def _areas_until(instances: Sequence[Instance], chosen: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Pixels of some of the instances over their first frames; chosen, lengths: (pairs,) int64."""
    sums = np.cumsum(np.concatenate([np.zeros(1, np.int64), *(instance.mask_areas for instance in instances)]))
    firsts = np.cumsum(np.append(0, _lengths(instances)))[chosen]
    return sums[firsts + lengths] - sums[firsts]
