"""AP and AR of video instance segmentation as the published YouTube-VIS evaluator counts them.

Source of every rule: Yang, Fan, Xu, "Video Instance Segmentation", ICCV 2019, section 5, and its code,
youtubevos/cocoapi PythonAPI/pycocotools/ytvoseval.py (line numbers of commit f3f9948 below). One deviation: that tool
takes an id of 0 for "unmatched"; here no id has a meaning.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from vislab.metrics.inputs import GroundTruth, Instance, read_ground_truth, read_results
from vislab.metrics.matches import AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS, Matches
from vislab.metrics.video_iou import video_iou


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


def match_instances(truth: GroundTruth, detections: Sequence[Instance]) -> Matches:
    """`match` for input that has been read."""
    truth_groups, detection_groups = _grouped(truth.instances), _grouped(detections)
    video_index = {identifier: index for index, identifier in enumerate(truth.videos)}
    category_index = {identifier: index for index, identifier in enumerate(truth.categories)}
    parts = [_match_group([], [], 0, 0)]  # gives the columns their types when there is nothing
    for key in sorted(truth_groups.keys() | detection_groups.keys()):
        video, category = video_index[key[0]], category_index[key[1]]
        parts.append(_match_group(truth_groups[key], detection_groups[key], video, category))
    columns = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    # Stable: equal scores stay in the order of their videos and, within one, of the results (ytvoseval.py: accumulate).
    order = np.lexsort((columns["detection_video"], -columns["detection_score"]))
    return Matches(
        video_ids=np.array(list(truth.videos), np.int64),
        category_ids=np.array(list(truth.categories), np.int64),
        category_names=np.array(list(truth.categories.values()), np.str_),
        **{name: column if name.startswith("truth") else column[..., order] for name, column in columns.items()},
    )


def _grouped(instances: Iterable[Instance]) -> dict[tuple[int, int], list[Instance]]:
    """Instances by (video id, category id), in their order."""
    groups: dict[tuple[int, int], list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[instance.video_id, instance.category_id].append(instance)
    return groups


def _match_group(truths: list[Instance], found: list[Instance], video: int, category: int) -> dict[str, np.ndarray]:
    """Columns of `Matches` for one video and category."""
    detections = sorted(found, key=lambda detection: -detection.score)[: MAX_DETECTIONS[-1]]
    overlaps = video_iou(detections, truths) if detections and truths else np.zeros((len(detections), len(truths)))
    crowd = np.array([truth.is_crowd for truth in truths], bool)
    truth_ignored = crowd | _outside([mean_area(truth.record["areas"]) for truth in truths])
    matched, ignored = assign(overlaps, crowd, truth_ignored)
    areas = [mean_area(detection.mask_areas) for detection in detections]
    return {
        "detection_video": np.full(len(detections), video, np.int32),
        "detection_category": np.full(len(detections), category, np.int32),
        "detection_score": np.array([detection.score for detection in detections], np.float64),
        "detection_area": np.array(areas, np.float64),
        "detection_rank": np.arange(len(detections), dtype=np.int32),
        "matched": matched,
        "ignored": ignored | (~matched & _outside(areas)[:, None]),
        "truth_video": np.full(len(truths), video, np.int32),
        "truth_category": np.full(len(truths), category, np.int32),
        "truth_ignored": truth_ignored,
    }


def assign(overlaps: np.ndarray, crowd: np.ndarray, ignored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Greedy assignment at every area range and IoU threshold (ytvoseval.py:280-327).

    The best detection chooses first: the greatest overlap (of equal ones the last) among the ground truths that are
    free and count; only if there is none, among the ignored ones. Crowds are never used up.

    Args:
        overlaps: (N, G) IoU, detections by falling score.
        crowd: (G,) bool.
        ignored: (A, G) bool, includes crowds.

    Returns:
        matched (A, I, N) bool; and whether the partner was an ignored one, (A, I, N) bool.
    """
    # The first maximum of the reversed order is the last of the original.
    overlaps, crowd, ignored = overlaps[:, ::-1], crowd[::-1], ignored[:, None, ::-1]
    limits = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    taken = np.zeros((len(ignored), len(limits), len(crowd)), bool)
    matched = np.zeros((*taken.shape[:2], len(overlaps)), bool)
    partner_ignored = matched.copy()
    for n in np.flatnonzero(overlaps.max(1, initial=0.0) >= limits[0]):
        candidates = (~taken | crowd) & (overlaps[n] >= limits)
        counting = candidates & ~ignored
        candidates = np.where(counting.any(2, keepdims=True), counting, candidates)
        best = np.where(candidates, overlaps[n], -1.0).argmax(2)
        chosen = candidates & (np.arange(len(crowd)) == best[..., None])
        matched[..., n] = chosen.any(2)
        partner_ignored[..., n] = (chosen & ignored).any(2)
        taken |= chosen
    return matched, partner_ignored


def mean_area(areas: Iterable[float | None]) -> float:
    """Mean over the frames whose area is neither null nor 0; 0 for none (ytvos.py: avg_area)."""
    filled = [area for area in areas if area]
    return float(np.mean(filled)) if filled else 0.0


def _outside(areas: Sequence[float]) -> np.ndarray:
    """Whether each area lies outside each area range; both bounds belong to it: (A, len(areas)) bool."""
    bounds = np.array(list(AREA_RANGES.values()))
    return (np.asarray(areas, np.float64) < bounds[:, :1]) | (np.asarray(areas, np.float64) > bounds[:, 1:])
