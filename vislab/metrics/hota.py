"""HOTA: higher-order tracking accuracy (Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object
Tracking", IJCV 2021), pooled over videos as TrackEval pools sequences.

Which detections take part, and what a class, a crowd and an absent track mean: `frame_overlap`. The values are those of
TrackEval 1.3.0 (metrics/hota.py, combine_sequences), except that they are NaN where there is neither object nor
detection. Equal detections can make several assignments of a frame equally good to the last bit. TrackEval's choice
among them depends on the order of the tracks and on the memory layout of its arrays; here it depends on neither.

Shape letters: V videos, R resamples, T frames, M labelled tracks, N detected tracks, A thresholds, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from vislab.metrics.frame_overlap import SCORE_THRESHOLD, Overlap, Scene, tracking_scenes
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.pooling import VideoCounts

ALPHAS = 0.05 + 0.05 * np.arange(19)  # IoU thresholds; TrackEval's floats, to the last bit
STATISTICS = ("HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr", "HOTA(0)")
_EPSILON = np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class HotaCounts(VideoCounts):
    """Counts of each video; enough for any resampling of the videos.

    An object is a labelled track in one frame, a detection a detected track in one frame. For one match, of tracks m
    and n that match in c frames and are present in a and b frames, AssA adds c / (a + b - c), AssRe c / a, AssPr c / b.
    """

    objects: np.ndarray  # (V, 1) int64
    detections: np.ndarray  # (V, 1) int64
    matches: np.ndarray  # (V, A) int64
    iou_sums: np.ndarray  # (V, A) float64, over the matches, as the three that follow
    association_sums: np.ndarray  # (V, A) float64
    recall_sums: np.ndarray  # (V, A) float64
    precision_sums: np.ndarray  # (V, A) float64

    @staticmethod
    def statistics(counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """By name, in [0, 1], from (R, A) or (R, 1) counts.

        Each is the mean over the thresholds, but HOTA(0), which is HOTA at the lowest one. HOTA is the root of DetA
        times AssA at each threshold. Without a match AssA, AssRe and AssPr are 0 and LocA is 1, as in TrackEval.
        """
        objects, detections, matches = counts["objects"], counts["detections"], counts["matches"]
        at_least_one = np.maximum(1, matches)
        by_alpha = {
            "DetA": matches / np.maximum(1, objects + detections - matches),
            "AssA": counts["association_sums"] / at_least_one,
            "LocA": np.where(matches > 0, counts["iou_sums"] / at_least_one, 1.0),
            "DetRe": matches / np.maximum(1, objects),
            "DetPr": matches / np.maximum(1, detections),
            "AssRe": counts["recall_sums"] / at_least_one,
            "AssPr": counts["precision_sums"] / at_least_one,
        }
        by_alpha["HOTA"] = np.sqrt(by_alpha["DetA"] * by_alpha["AssA"])
        values = {name: table.mean(1) for name, table in by_alpha.items()} | {"HOTA(0)": by_alpha["HOTA"][:, 0]}
        defined = (objects + detections)[:, 0] > 0
        return {name: np.where(defined, values[name], np.nan) for name in STATISTICS}


def hota_instances(
    truth: GroundTruth,
    detections: Sequence[Instance],
    *,
    overlap: Overlap = "mask",
    score_threshold: float = SCORE_THRESHOLD,
    class_agnostic: bool = True,
) -> HotaCounts:
    """HOTA counts of input that has been read.

    Args:
        overlap: "mask" compares masks, "box" the tight boxes around them.
        score_threshold: least score of a detection that counts.
        class_agnostic: whether a detection may be matched to an object of another category.

    Raises:
        UserError: an option that is none.
    """
    scenes = tracking_scenes(
        truth, detections, overlap=overlap, score_threshold=score_threshold, class_agnostic=class_agnostic
    )
    return hota_scenes(scenes, np.array(list(truth.videos), np.int64))


def hota_scenes(scenes: Iterable[Scene], video_ids: np.ndarray) -> HotaCounts:
    """HOTA counts of scenes, summed by video; video_ids: (V,) int64, what `Scene.video` points into."""
    sums = {
        field.name: np.zeros(
            (len(video_ids), 1 if field.name in ("objects", "detections") else len(ALPHAS)),
            np.float64 if field.name.endswith("sums") else np.int64,
        )
        for field in fields(HotaCounts)[1:]
    }
    for scene in scenes:
        for name, counts in _scene_counts(scene).items():
            sums[name][scene.video] += counts
    return HotaCounts(video_ids, **sums)


def alignment(scene: Scene) -> np.ndarray:
    """How well two tracks fit over the whole scene, before any matching: (M, N) float64 in [0, 1].

    The Jaccard index of two tracks, in which a frame counts by their IoU over the sum of all IoUs that either of the
    two has in it (TrackEval's "global alignment score").
    """
    ious = scene.ious
    rivals = ious.sum(1)[:, None, :] + ious.sum(2)[:, :, None] - ious
    together = np.divide(ious, rivals, out=np.zeros(ious.shape), where=rivals > _EPSILON).sum(0)
    either = scene.truth_present.sum(0)[:, None] + scene.found_present.sum(0) - together
    return np.divide(together, either, out=np.zeros(together.shape), where=either > 0)


def matched_pairs(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of the best assignment in each frame, by alignment times IoU: frame, row and column of each, (P,) int64.

    One assignment serves all thresholds. Pairs without overlap may be among them.
    """
    scores = alignment(scene) * scene.ious
    if not scores.size:
        return (np.zeros(0, np.int64),) * 3
    best = scores.max(2, keepdims=True)
    # If the best columns of the rows differ, and each is the best by far, no other assignment has as great a sum.
    favoured = (scores >= best * (1 - 1e-9)) & (best > 0)
    clear = ((favoured.sum(1) <= 1).all(1)) & ((favoured.sum(2) <= 1).all(1))
    pairs = [np.nonzero(favoured & clear[:, None, None])]
    for frame in np.flatnonzero(~clear).tolist():
        rows, columns = np.flatnonzero(scene.truth_present[frame]), np.flatnonzero(scene.found_present[frame])
        chosen, others = linear_sum_assignment(scores[frame][rows][:, columns], maximize=True)
        pairs.append((np.full(len(chosen), frame), rows[chosen], columns[others]))
    frames, rows, columns = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return frames, rows, columns


def _scene_counts(scene: Scene) -> dict[str, np.ndarray]:
    frames, rows, columns = matched_pairs(scene)
    ious = scene.ious[frames, rows, columns]
    hits = ious >= ALPHAS[:, None] - _EPSILON  # (A, P)
    shape = (len(ALPHAS), *scene.ious.shape[1:])
    alpha, pair = np.nonzero(hits)
    cells = np.ravel_multi_index((alpha, rows[pair], columns[pair]), shape)
    together = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)  # frames in which two tracks match
    objects, detections = scene.truth_present.sum(0)[:, None], scene.found_present.sum(0)[None]

    def over_matches(denominator: np.ndarray) -> np.ndarray:
        return (together * (together / np.maximum(1, denominator))).sum((1, 2))

    return {
        "objects": objects.sum(),
        "detections": detections.sum(),
        "matches": hits.sum(1),
        "iou_sums": (hits * ious).sum(1),
        "association_sums": over_matches(objects + detections - together),
        "recall_sums": over_matches(objects),
        "precision_sums": over_matches(detections),
    }
