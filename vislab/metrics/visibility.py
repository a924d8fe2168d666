"""Mask IoU split by how visible the object is in the frame: does a model take evidence from neighbouring frames?

For data whose ground truth says how opaque each object is in each frame ("opacities", 1 = evident). A frame where an
object is faint can be solved from that frame only by luck; if the object is evident a few frames away, a model with
temporal context can carry its place over. AP mixes the two; the means here do not.

Shape letters: V videos, T frames, R replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vislab.errors import UserError
from vislab.metrics.best_tracks import distinct_tracks
from vislab.metrics.inputs import GroundTruth, Instance, is_number, listed, read_ground_truth, read_results, shown
from vislab.metrics.video_iou import frame_intersections, video_iou

GROUPS = ("evident", "faint with visible neighbour", "faint without visible neighbour")
_TOP = 10  # detections of a video that are looked at, as in AR10


@dataclass(frozen=True, eq=False)
class VisibilityIoU:
    """Sums over the labelled frames of each video, by group; enough for any resampling of the videos."""

    video_ids: np.ndarray  # (V,) int64, rising
    iou_sums: np.ndarray  # (V, 3) float64
    frame_counts: np.ndarray  # (V, 3) int64

    def summaries(
        self, video_weights: np.ndarray | None = None, names: Sequence[str] = GROUPS
    ) -> dict[str, np.ndarray]:
        """Mean IoU over the frames of each named group in R resamples: name -> (R,), NaN for a group without frames.

        Args:
            video_weights: (R, V) non-negative integers (default: one row of ones).
        """
        weights = np.ones((1, len(self.video_ids)), np.int64) if video_weights is None else video_weights
        sums, counts = weights @ self.iou_sums, weights @ self.frame_counts
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        return {name: means[:, GROUPS.index(name)] for name in names}


def visibility_iou(gt: dict, results: list[dict], window: int = 2) -> VisibilityIoU:
    """IoU of each labelled object, in each frame where it is present, with the one detection that fits it best.

    That detection is the one with the greatest video IoU among the 10 best-scored tracks of the video, whatever its
    category, a track with several categories counted once; it may serve several objects. Crowds are left out.

    Args:
        gt: as described at `inputs.read_ground_truth`; every annotation also has "opacities", a number in [0, 1] per
            frame (null allowed where it is absent).
        results: YouTube-VIS results.
        window: frames in which an evident view of the same object counts as neighbour, to each side.

    Raises:
        UserError: malformed input, or an annotation without opacities.
    """
    truth = read_ground_truth(gt, any_length=True)
    return visibility_iou_instances(truth, read_results(results, truth, any_length=True), window)


def visibility_iou_instances(truth: GroundTruth, detections: Sequence[Instance], window: int = 2) -> VisibilityIoU:
    """`visibility_iou` for input that has been read."""
    iou_sums = np.zeros((len(truth.videos), len(GROUPS)))
    frame_counts = np.zeros((len(truth.videos), len(GROUPS)), np.int64)
    for row, video_id in enumerate(truth.videos):
        labelled = [i for i in truth.instances if i.video_id == video_id and not i.is_crowd]
        found = distinct_tracks(d for d in detections if d.video_id == video_id)[:_TOP]
        for instance, ious in zip(labelled, _best_frame_ious(labelled, found), strict=True):
            groups = frame_groups(_opacities(instance), instance.mask_areas > 0, window)
            for group in range(len(GROUPS)):
                iou_sums[row, group] += ious[groups == group].sum()
                frame_counts[row, group] += (groups == group).sum()
    return VisibilityIoU(np.array(list(truth.videos), np.int64), iou_sums, frame_counts)


def frame_groups(opacities: np.ndarray, present: np.ndarray, window: int) -> np.ndarray:
    """Index into GROUPS of each frame of one object, -1 where it is absent: (T,) int64.

    Args:
        opacities: (T,) float in [0, 1], NaN where absent; present: (T,) bool.
    """
    evident = present & (opacities >= 1)
    distances = np.abs(np.arange(len(evident))[:, None] - np.flatnonzero(evident))
    reach = (distances <= window).any(1)
    return np.where(~present, -1, np.where(evident, 0, np.where(reach, 1, 2)))


def _best_frame_ious(labelled: Sequence[Instance], found: Sequence[Instance]) -> list[np.ndarray]:
    """Per labelled object, the IoU of each of its frames with its best detection; 0 where that one is absent."""
    if not labelled or not found:
        return [np.zeros(instance.length) for instance in labelled]
    best = video_iou(found, labelled).argmax(0)
    intersections = frame_intersections(found, labelled)
    return [
        _frame_ious(intersections[:, n, m], found[n].mask_areas, labelled[m].mask_areas) for m, n in enumerate(best)
    ]


def _frame_ious(intersections: np.ndarray, detection_areas: np.ndarray, truth_areas: np.ndarray) -> np.ndarray:
    """Lists may end early; the result is as long as the labelled one."""
    areas, shared = np.zeros((2, len(truth_areas)), np.int64)
    areas[: len(detection_areas)] = detection_areas[: len(areas)]
    shared[: len(intersections)] = intersections[: len(shared)]
    unions = areas + truth_areas - shared
    return np.divide(shared, unions, out=np.zeros(len(unions)), where=unions > 0)


def _opacities(instance: Instance) -> np.ndarray:
    values = listed(instance.record, "opacities", instance.where)
    if len(values) != instance.length:
        raise UserError(f"{instance.where}.opacities has {len(values)} entries, segmentations has {instance.length}")
    for frame, value in enumerate(values):
        absent = value is None and not instance.mask_areas[frame]
        if not absent and not (is_number(value) and 0 <= value <= 1):
            raise UserError(f"{instance.where}.opacities[{frame}] is {shown(value)}, expected a number from 0 to 1")
    return np.array([np.nan if value is None else value for value in values], np.float64)
