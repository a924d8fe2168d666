"""TIDE and TIVE: which kind of error costs how much AP50, by fixing one kind at a time.

TIDE: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, sections 2.2 and 2.3;
code dbolya/tide 49a5d2a, tidecv/quantify.py:208-282 and tidecv/errors/. TIVE carries it over to videos, with the IoU of
whole tracks, and splits the error of localisation: Jia et al., "TIVE: A Toolbox for Identifying Video Instance
Segmentation Errors", Neurocomputing 545, 2023 (arXiv 2210.08856); code wenhe-jia/TIVE 0566d9a,
tivecv/quantify.py:232-340. Where the papers leave a choice, their code decides, for it made the published numbers.

A false positive is a detection that the evaluator (`video_ap`) counts as wrong at an IoU of t_f = 0.5. Let s be its
greatest IoU with a labelled object of its video and category, o with one of another category, and t_b = 0.1. The first
line that applies names its error:

    spatial         t_b <= s < t_f, temporal overlap >= 0.7: the right object over its time, but poor masks
    temporal        t_b <= s < t_f, temporal overlap < 0.7: wrong extent in time, or an identity switch
    classification  o >= t_f: right but for the category
    duplicate       s >= t_f: the object is found already, by a better-scored detection
    both            t_b <= o: wrong category, and poorly localised as well
    background      neither: no object there

Temporal overlap with the object that gives s: the share of frames whose mask IoU exceeds 0.1, among those where one of
the two is present. Spatial and temporal errors are due to the object that gives s, classification errors to the one
that gives o. A labelled object that no detection matches is a false negative; it is a miss, the seventh error, if no
error is due to it either.

Fixing a classification, spatial or temporal error makes the detection a true positive of the object's category, with
its score. An object gains one detection, the best-scored of all errors of the three kinds that are due to it; the
others, and those due to an object that is found already, are removed. So are duplicates, both and background. Fixing
misses takes the missed objects out of the ground truth: precision stays, recall grows, and a category without any other
object leaves the mean, as one without ground truth does. The two special errors of TIDE: "false positive" removes all
false positives, "false negative" takes all false negatives out of the ground truth.

Choices of vislab, where TIDE does otherwise: intervals are half-open (TIDE's share their ends). A category without
objects has no AP (TIDE gives it 0 if it has detections). Detections that match a crowd are no errors, and crowds cause
none (TIDE lets such detections become true positives). Of equal overlaps, an object not yet found comes first, then the
last. A difference is not cut at 0. Up to 100 detections count per video and category, not per video.

Shape letters: N detections, G labelled objects, R replicates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.matches import Matches
from vislab.metrics.video_ap import Group, assign, best_scored, gathered, instance_columns
from vislab.metrics.video_iou import frame_intersections, video_iou

ERROR_TYPES = ("classification", "spatial", "temporal", "both", "duplicate", "background", "miss")
ORACLES = (*ERROR_TYPES, "false positive", "false negative")
_CLASSIFICATION, _SPATIAL, _TEMPORAL, _BOTH, _DUPLICATE, _BACKGROUND = range(6)
_BACKGROUND_IOU = 0.1  # t_b
_FRAME_IOU = 0.1
_TEMPORAL_OVERLAP = 0.7


@dataclass(frozen=True, eq=False)
class ErrorBreakdown:
    """The error of every detection and labelled object; enough to fix any of them, for any resampling of the videos.

    Detections and labelled objects are those of `matches`, in its order.
    """

    matches: Matches  # as evaluated, at the one IoU threshold
    error: np.ndarray  # (N,) int8, index into ERROR_TYPES, -1 for true positives and ignored detections
    fixed_to: np.ndarray  # (N,) int64, object that the detection finds once fixed, -1 if fixing removes it
    truth_found: np.ndarray  # (G,) bool: has a true positive
    truth_missed: np.ndarray  # (G,) bool: has none, and no error is due to it; never a crowd

    @property
    def video_ids(self) -> np.ndarray:
        """(V,) int64, rising."""
        return self.matches.video_ids

    @property
    def counts(self) -> dict[str, int]:
        """Detections, or labelled objects, per oracle."""
        false_negatives = ~self.truth_found & ~self.matches.truth_ignored[0]
        numbers = [int((self.error == kind).sum()) for kind in range(_BACKGROUND + 1)]
        numbers += [int(self.truth_missed.sum()), int((self.error >= 0).sum()), int(false_negatives.sum())]
        return dict(zip(ORACLES, numbers, strict=True))

    def summaries(
        self, video_weights: np.ndarray | None = None, names: Sequence[str] = ORACLES
    ) -> dict[str, np.ndarray]:
        """dAP of each named oracle in R resamples: AP with the errors fixed minus AP, name -> (R,) float64.

        NaN where either is undefined: without ground truth, or if all of it is missed and "miss" is fixed.

        Args:
            video_weights: (R, V) non-negative integers (default: one row of ones).
        """
        before = self.matches.summaries(video_weights, ["AP"])["AP"]
        return {name: self.fixed(name).summaries(video_weights, ["AP"])["AP"] - before for name in names}

    def fixed(self, *names: str) -> Matches:
        """The evaluation with the errors of all named oracles fixed."""
        assert set(names) <= set(ORACLES), names
        repaired = np.isin(self.error, [ERROR_TYPES.index(name) for name in names if name in ERROR_TYPES])
        correct = repaired & (self.fixed_to >= 0)
        removed = (self.error >= 0) & ~correct if "false positive" in names else repaired & ~correct
        left_out = np.zeros(len(self.truth_found), bool)
        left_out |= self.truth_missed & ("miss" in names)
        left_out |= ~self.truth_found & ("false negative" in names)
        category = self.matches.detection_category.copy()
        category[correct] = self.matches.truth_category[self.fixed_to[correct]]
        return replace(
            self.matches,
            detection_category=category,
            matched=self.matches.matched | correct,
            ignored=self.matches.ignored | removed,
            truth_ignored=self.matches.truth_ignored | left_out,
        )


def error_breakdown(truth: GroundTruth, detections: Sequence[Instance], threshold: float = 0.5) -> ErrorBreakdown:
    """The errors of a results file, by the rules at the top of this file.

    Args:
        truth, detections: as `inputs.read_ground_truth` and `inputs.read_results` give them.
        threshold: IoU that makes a detection right (t_f), above 0.1. For AP over all thresholds, average the
            `summaries` of one breakdown per threshold.
    """
    assert threshold > _BACKGROUND_IOU, threshold
    labelled, found = _by_video(truth.instances), _by_video(detections)
    categories = {identifier: index for index, identifier in enumerate(truth.categories)}
    parts = [_video_columns([], [], 0, categories, threshold)]  # gives the columns their types when there is nothing
    objects = 0
    for video, identifier in enumerate(truth.videos):
        part = _video_columns(labelled[identifier], found[identifier], video, categories, threshold)
        part["fixed_to"] = np.where(part["fixed_to"] >= 0, part["fixed_to"] + objects, -1)
        objects += len(part["truth_video"])
        parts.append(part)
    columns = gathered(truth, parts)
    own = {name: columns.pop(name) for name in ("error", "fixed_to", "truth_found", "truth_missed")}
    return ErrorBreakdown(matches=Matches(**columns), **own)


def temporal_overlap(detection: Instance, truth: Instance) -> float:
    """Share of frames with a mask IoU above 0.1, among those where one of the two is present (TIVE, overlap_temp).

    As for the IoU of tracks, lists of unequal length are compared over the shorter one. 0 if neither is ever present.
    """
    shared = frame_intersections([detection], [truth])[:, 0, 0]
    unions = detection.mask_areas[: len(shared)] + truth.mask_areas[: len(shared)] - shared
    present = unions > 0
    return float((shared[present] / unions[present] > _FRAME_IOU).mean()) if present.any() else 0.0


def _by_video(instances: Sequence[Instance]) -> dict[int, list[Instance]]:
    groups: dict[int, list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[instance.video_id].append(instance)
    return groups


def _video_columns(
    labelled: Sequence[Instance], found: Sequence[Instance], video: int, categories: dict[int, int], threshold: float
) -> dict[str, np.ndarray]:
    """Columns of `Matches` and `ErrorBreakdown` for one video; `fixed_to` counts the objects of this video only."""
    groups = []
    for category in sorted({instance.category_id for instance in (*labelled, *found)}):
        own = [truth for truth in labelled if truth.category_id == category]
        ranked = best_scored(detection for detection in found if detection.category_id == category)
        groups.append(Group(video, categories[category], own, ranked))
    columns = instance_columns(groups)
    truths = [truth for group in groups for truth in group.truths]
    detections = [detection for group in groups for detection in group.detections]
    same = columns["detection_category"][:, None] == columns["truth_category"]
    overlaps = video_iou(detections, truths) if detections and truths else np.zeros(same.shape)
    crowd = np.array([truth.is_crowd for truth in truths], bool)
    partner, ignored = assign(np.where(same, overlaps, 0.0), crowd, crowd[None], np.array([threshold]))
    is_found = np.isin(np.arange(len(truths)), partner)
    error, due_to = _diagnosis(np.where(crowd, 0.0, overlaps), same, is_found, threshold)
    error, due_to = np.where(partner[0, 0] >= 0, -1, (error, due_to))
    for n in np.flatnonzero(error == _SPATIAL):
        if temporal_overlap(detections[n], truths[due_to[n]]) < _TEMPORAL_OVERLAP:
            error[n] = _TEMPORAL
    return columns | {
        "matched": partner >= 0,
        "ignored": ignored,
        "error": error.astype(np.int8),
        "fixed_to": _best_for_each(np.where(np.append(is_found, True)[due_to], -1, due_to), columns["detection_score"]),
        "truth_ignored": crowd[None],
        "truth_found": is_found & ~crowd,
        "truth_missed": ~is_found & ~crowd & ~np.isin(np.arange(len(truths)), due_to),
    }


def _diagnosis(
    overlaps: np.ndarray, same: np.ndarray, found: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Error of each detection, were it a false positive, and the object that it is due to, -1 for none: (N,), (N,).

    Args:
        overlaps: (N, G) IoU, 0 for crowds.
        same: (N, G) bool, whether the categories agree.
        found: (G,) bool.

    Temporal errors are left among the spatial ones.
    """
    own, other = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    s, o = own.max(1, initial=0.0), other.max(1, initial=0.0)
    error = np.select(
        [(s >= _BACKGROUND_IOU) & (s < threshold), o >= threshold, s >= threshold, o >= _BACKGROUND_IOU],
        [_SPATIAL, _CLASSIFICATION, _DUPLICATE, _BOTH],
        _BACKGROUND,
    )
    due_to = np.where(error == _SPATIAL, _closest(own, found), _closest(other, found))
    return error, np.where((error == _SPATIAL) | (error == _CLASSIFICATION), due_to, -1)


def _closest(overlaps: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Object of the greatest overlap; of equal ones one that is not found yet, then the last: (N, G) -> (N,)."""
    closest = overlaps == overlaps.max(1, initial=0.0)[:, None]
    preference = np.arange(len(found)) + len(found) * ~found
    return np.where(closest, preference, -1).max(1, initial=-1) % max(len(found), 1)


def _best_for_each(due_to: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """`due_to`, (N,), of the best-scored detection of each object, the first of equal ones, and -1 for the others."""
    order = np.argsort(-scores, kind="stable")
    _, first = np.unique(due_to[order], return_index=True)
    best = np.full(len(due_to), -1)
    best[order[first]] = due_to[order[first]]
    return best
