"""AP and AR of video instance segmentation as the published YouTube-VIS evaluator counts them.

Source of every rule: Yang, Fan, Xu, "Video Instance Segmentation", ICCV 2019, section 5, and its code,
youtubevos/cocoapi PythonAPI/pycocotools/ytvoseval.py (line numbers of commit f3f9948 below). One deviation: that tool
takes an id of 0 for "unmatched"; here no id has a meaning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vislab.metrics.inputs import GroundTruth, Instance, read_ground_truth, read_results
from vislab.metrics.matches import AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS, Matches
from vislab.metrics.video_iou import video_iou


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


def mean_mask_area(instance: Instance) -> float:
    """`mean_area` of the instance's masks."""
    return float(instance.mask_areas.sum() / max(np.count_nonzero(instance.mask_areas), 1))


# The areas that the file gives count for ground truth, those of the masks for detections (ytvoseval.py:97-101).
AREAS = Ranges(list(AREA_RANGES.values()), lambda truth: mean_area(truth.record["areas"]), mean_mask_area)


def match(gt: dict, results: list[dict]) -> Matches:
    """Match a results list to a YouTube-VIS ground truth, once and for all resamplings.

    Lists of unequal length are compared over the shorter one, as the published tool does (`evaluate` refuses them).

    Args:
        gt: as described at `inputs.read_ground_truth`.
        results: [{"video_id", "category_id", "score", "segmentations"}].

    Raises:
        UserError: malformed input; names the place.
    """
    truth = read_ground_truth(gt, any_length=True)
    return match_instances(truth, read_results(results, truth, any_length=True))


def match_instances(truth: GroundTruth, detections: Sequence[Instance], ranges: Sequence[Ranges] = (AREAS,)) -> Matches:
    """`match` for input that has been read; `ranges`, taken together, become the first axis of the result."""
    truth_groups, detection_groups = _grouped(truth.instances), _grouped(detections)
    video_index = {identifier: index for index, identifier in enumerate(truth.videos)}
    category_index = {identifier: index for index, identifier in enumerate(truth.categories)}
    parts = [_match_group([], [], 0, 0, ranges)]  # gives the columns their types when there is nothing
    for key in sorted(truth_groups.keys() | detection_groups.keys()):
        video, category = video_index[key[0]], category_index[key[1]]
        parts.append(_match_group(truth_groups[key], detection_groups[key], video, category, ranges))
    return Matches(**gathered(truth, parts))


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


def _grouped(instances: Iterable[Instance]) -> dict[tuple[int, int], list[Instance]]:
    """Instances by (video id, category id), in their order."""
    groups: dict[tuple[int, int], list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[instance.video_id, instance.category_id].append(instance)
    return groups


def best_scored(found: Iterable[Instance]) -> list[Instance]:
    """The detections of one video and category that are looked at, by falling score, ties in their order."""
    return sorted(found, key=lambda detection: -detection.score)[: MAX_DETECTIONS[-1]]


def _match_group(
    truths: list[Instance], found: list[Instance], video: int, category: int, ranges: Sequence[Ranges]
) -> dict[str, np.ndarray]:
    """Columns of `Matches` for one video and category, all but those of the file as a whole."""
    detections = best_scored(found)
    overlaps = video_iou(detections, truths) if detections and truths else np.zeros((len(detections), len(truths)))
    crowd = np.array([truth.is_crowd for truth in truths], bool)
    truth_ignored = crowd | np.concatenate([each.truths_outside(truths) for each in ranges])
    outside = np.concatenate([each.detections_outside(detections) for each in ranges])
    partner, partner_ignored = assign(overlaps, crowd, truth_ignored)
    matched = partner >= 0
    return instance_columns(truths, detections, video, category) | {
        "matched": matched,
        "ignored": partner_ignored | (~matched & outside[:, None]),
        "truth_ignored": truth_ignored,
    }


def instance_columns(
    truths: Sequence[Instance], detections: Sequence[Instance], video: int, category: int
) -> dict[str, np.ndarray]:
    """Columns of `Matches` that say what the instances of one video and category are; detections by falling score."""
    return {
        "detection_video": np.full(len(detections), video, np.int32),
        "detection_category": np.full(len(detections), category, np.int32),
        "detection_score": np.array([detection.score for detection in detections], np.float64),
        "detection_area": np.array([mean_mask_area(detection) for detection in detections], np.float64),
        "detection_rank": np.arange(len(detections), dtype=np.int32),
        "truth_video": np.full(len(truths), video, np.int32),
        "truth_category": np.full(len(truths), category, np.int32),
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
