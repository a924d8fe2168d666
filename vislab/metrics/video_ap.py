"""AP and AR of video instance segmentation as the published YouTube-VIS evaluator counts them.

Source of every rule: Yang, Fan, Xu, "Video Instance Segmentation", ICCV 2019, section 5, and its code,
youtubevos/cocoapi PythonAPI/pycocotools/ytvoseval.py (line numbers of commit f3f9948 below). One deviation: that tool
takes an id of 0 for "unmatched"; here no id has a meaning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from vislab.metrics.inputs import GroundTruth, Instance, collector_paused, read_ground_truth, read_results
from vislab.metrics.matches import IOU_THRESHOLDS, MAX_DETECTIONS, Matches
from vislab.metrics.video_iou import video_ious


@dataclass(frozen=True)
class Ranges:
    """A ranges of some quantity of an instance, such as its area; both bounds belong to a range.

    In each range, ground truth outside of it is ignored, and so is a detection outside of it that matches nothing.
    """

    bounds: Sequence[tuple[float, float]]
    of_truth: Callable[[Instance], float]  # NaN is outside of every range
    of_detection: Callable[[Instance], float] | None  # None: not known, so that it lies in every range

    def truths_outside(self, truths: Sequence[Instance]) -> np.ndarray:
        """(A, G) bool."""
        return self._outside([self.of_truth(truth) for truth in truths])

    def detections_outside(self, detections: Sequence[Instance]) -> np.ndarray:
        """(A, N) bool."""
        if self.of_detection is None:
            return np.zeros((len(self.bounds), len(detections)), bool)
        return self._outside([self.of_detection(detection) for detection in detections])

    def _outside(self, values: Sequence[float]) -> np.ndarray:
        low, high = np.asarray(self.bounds, np.float64).T[..., None]
        return ~((low <= np.asarray(values, np.float64)) & (np.asarray(values, np.float64) <= high))


def mean_area(areas: Iterable[float | None]) -> float:
    """Mean over the frames whose area is neither null nor 0; 0 for none (ytvos.py: avg_area)."""
    filled = [area for area in areas if area]
    return float(np.mean(filled)) if filled else 0.0


def _area_ranges(medium: float, large: float) -> Ranges:
    """All, small, medium and large objects. The areas that the file gives count for ground truth, those of the masks
    for detections (ytvoseval.py:97-101)."""
    bounds = [(0.0, 1e10), (0.0, medium), (medium, large), (large, 1e10)]
    return Ranges(bounds, lambda truth: mean_area(truth.record["areas"]), lambda found: found.mean_mask_area)


AreaBounds = Literal["video", "image"]
AREAS: dict[AreaBounds, Ranges] = {
    "video": _area_ranges(128.0**2, 256.0**2),  # ytvoseval.py: Params.setDetParams
    "image": _area_ranges(32.0**2, 96.0**2),  # COCO's, for data sets of stills (cocoeval.py: Params.setDetParams)
}


def match(gt: dict, results: list[dict], areas: AreaBounds = "video") -> Matches:
    """Match a results list to a YouTube-VIS ground truth, once and for all resamplings.

    Lists of unequal length are compared over the shorter one, as the published tool does (`evaluate` refuses them).

    Args:
        gt: as described at `inputs.read_ground_truth`.
        results: [{"video_id", "category_id", "score", "segmentations"}].
        areas: where small, medium and large objects are divided: at 128 x 128 and 256 x 256 pixels as in YouTube-VIS,
            or, "image", at 32 x 32 and 96 x 96 as in COCO.

    Raises:
        UserError: malformed input; names the place.
    """
    with collector_paused():
        truth = read_ground_truth(gt, any_length=True)
        return match_instances(truth, read_results(results, truth, any_length=True), (AREAS[areas],))


def match_instances(
    truth: GroundTruth, detections: Sequence[Instance], ranges: Sequence[Ranges] = (AREAS["video"],)
) -> Matches:
    """`match` for input that has been read; `ranges`, taken together, become the first axis of the result."""
    groups = list(_groups(truth, detections))
    truths = [instance for group in groups for instance in group.truths]
    found = [instance for group in groups for instance in group.detections]
    crowd = np.array([instance.is_crowd for instance in truths], bool)
    truth_ignored = crowd | np.concatenate([each.truths_outside(truths) for each in ranges])
    outside = np.concatenate([each.detections_outside(found) for each in ranges])
    matched, ignored = np.zeros((2, len(outside), len(IOU_THRESHOLDS), len(found)), bool)
    overlaps = iter(video_ious([(group.detections, group.truths) for group in groups if _compares(group)]))
    first_truth = first_found = 0
    for group in groups:
        mine = slice(first_truth, first_truth := first_truth + len(group.truths))
        theirs = slice(first_found, first_found := first_found + len(group.detections))
        if _compares(group):
            partner, ignored[..., theirs] = assign(next(overlaps), crowd[mine], truth_ignored[:, mine])
            matched[..., theirs] = partner >= 0
    ignored |= ~matched & outside[:, None]
    columns = instance_columns(groups) | {"matched": matched, "ignored": ignored, "truth_ignored": truth_ignored}
    return Matches(**gathered(truth, [columns]))


def gathered(truth: GroundTruth, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of `Matches` from those of its parts, in the order of video and category; detections end up ranked.

    A column is of the ground truth if its name begins with "truth", else of the detections; these are its last axis.
    """
    columns = joined(parts)
    # Stable: equal scores stay in the order of their videos and, within one, of the results (ytvoseval.py: accumulate).
    order = np.lexsort((columns["detection_video"], -columns["detection_score"]))
    return {
        "video_ids": np.array(list(truth.videos), np.int64),
        "category_ids": np.array(list(truth.categories), np.int64),
        "category_names": np.array(list(truth.categories.values()), np.str_),
        **{name: column if name.startswith("truth") else column[..., order] for name, column in columns.items()},
    }


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of all parts, one after the other; at least one part."""
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


class Group(NamedTuple):
    """What one video has of one category: the best detections, by falling score, ties in the order of the results."""

    video: int  # index into GroundTruth.videos
    category: int  # index into GroundTruth.categories
    truths: list[Instance]
    detections: list[Instance]


def _groups(truth: GroundTruth, detections: Iterable[Instance]) -> Iterator[Group]:
    """All that have anything, in the order of video and category."""
    sides: list[dict[tuple[int, int], list[Instance]]] = [defaultdict(list), defaultdict(list)]
    for groups, instances in zip(sides, (truth.instances, detections), strict=True):
        for instance in instances:
            groups[instance.video_id, instance.category_id].append(instance)
    videos = {identifier: index for index, identifier in enumerate(truth.videos)}
    categories = {identifier: index for index, identifier in enumerate(truth.categories)}
    for video, category in sorted(sides[0].keys() | sides[1].keys()):
        truths, found = (side.get((video, category), []) for side in sides)
        yield Group(videos[video], categories[category], truths, best_scored(found))


def _compares(group: Group) -> bool:
    return bool(group.truths and group.detections)


def best_scored(found: Iterable[Instance]) -> list[Instance]:
    """The detections of one video and category that are looked at, by falling score, ties in their order."""
    return sorted(found, key=lambda detection: -detection.score)[: MAX_DETECTIONS[-1]]


def instance_columns(groups: Sequence[Group]) -> dict[str, np.ndarray]:
    """Columns of `Matches` that say what the instances of some groups are, one group after the other."""
    detections = [detection for group in groups for detection in group.detections]
    numbers = [[len(group.detections) for group in groups], [len(group.truths) for group in groups]]
    videos, categories = (np.array([group[part] for group in groups], np.int32) for part in (0, 1))
    ranks = [np.arange(number, dtype=np.int32) for number in (0, *numbers[0])]
    return {
        "detection_video": np.repeat(videos, numbers[0]),
        "detection_category": np.repeat(categories, numbers[0]),
        "detection_score": np.array([detection.score for detection in detections], np.float64),
        "detection_area": np.array([detection.mean_mask_area for detection in detections], np.float64),
        "detection_rank": np.concatenate(ranks),
        "truth_video": np.repeat(videos, numbers[1]),
        "truth_category": np.repeat(categories, numbers[1]),
    }


def assign(
    overlaps: np.ndarray, crowd: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray = IOU_THRESHOLDS
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy assignment at every range and IoU threshold (ytvoseval.py:280-327).

    The best detection chooses first: the greatest overlap (of equal ones the last) among the ground truths that are
    free and count; only if there is none, among the ignored ones. Crowds are never used up.

    Args:
        overlaps: (N, G) IoU, detections by falling score.
        crowd: (G,) bool.
        ignored: (A, G) bool, includes crowds.
        thresholds: (I,), rising.

    Returns:
        The partner of each detection, (A, I, N) int64, index into G, -1 for none; and whether it is an ignored one,
        (A, I, N) bool.
    """
    if overlaps.shape[1] == 1:
        return _assign_to_one(overlaps[:, 0], bool(crowd[0]), ignored[:, 0], thresholds)
    # The first maximum of the reversed order is the last of the original.
    overlaps, crowd, ignored = overlaps[:, ::-1], crowd[::-1], ignored[:, None, ::-1]
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    taken = np.zeros((len(ignored), len(limits), len(crowd)), bool)
    partner = np.full((*taken.shape[:2], len(overlaps)), -1)
    partner_ignored = np.zeros(partner.shape, bool)
    for n in np.flatnonzero(overlaps.max(1, initial=0.0) >= limits[0]):
        candidates = (~taken | crowd) & (overlaps[n] >= limits)
        counting = candidates & ~ignored
        candidates = np.where(counting.any(2, keepdims=True), counting, candidates)
        best = np.where(candidates, overlaps[n], -1.0).argmax(2)
        chosen = candidates & (np.arange(len(crowd)) == best[..., None])
        partner[..., n] = np.where(chosen.any(2), len(crowd) - 1 - best, -1)
        partner_ignored[..., n] = (chosen & ignored).any(2)
        taken |= chosen
    return partner, partner_ignored


def _assign_to_one(
    overlaps: np.ndarray, crowd: bool, ignored: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`assign` for a single ground truth, which is what most videos have of a category: the first that may takes it."""
    chosen = overlaps >= np.minimum(thresholds, 1 - 1e-10)[:, None]
    if not crowd:
        chosen &= np.cumsum(chosen, 1) == 1
    partner = np.broadcast_to(np.where(chosen, 0, -1), (len(ignored), *chosen.shape))
    return partner, chosen & ignored[:, None, None]
