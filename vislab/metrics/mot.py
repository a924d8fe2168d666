"""Consistency of identities over time, as the IFR paper (section 4.4) measures it with motmetrics.

CLEAR MOT (Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008)
and the identity measures (Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera
Tracking", 2016), at IoU 0.5. The results are those of motmetrics 1.4.0 (mot.py, metrics.py), counted without its event
table, with two exceptions: a ratio without a denominator is NaN (there MOTA can be -inf), and MOTP is a mean IoU (there
a mean distance, 1 - IoU) that a video without any match does not make undefined for all videos.

Which detections take part, and what a class, a crowd and an absent track mean: `frame_overlap`.

Shape letters: V videos, R resamples, T frames, M labelled tracks, N detected tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.optimize import linear_sum_assignment

from vislab.metrics.frame_overlap import MATCH_IOU, SCORE_THRESHOLD, Overlap, Scene, assign, tracking_scenes
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.pooling import VideoCounts

STATISTICS = ("IDF1", "IDP", "IDR", "MOTA", "MOTP", "IDs", "Frag", "MT", "PT", "ML", "FP", "FN")


@dataclass(frozen=True, eq=False)
class MotCounts(VideoCounts):
    """Counts of each video, (V,) int64 unless said otherwise; enough for any resampling of the videos.

    An object is a labelled track in one frame, a detection a detected track in one frame.
    """

    objects: np.ndarray
    detections: np.ndarray
    matches: np.ndarray  # pairs of an object and a detection; those that switch identity included
    switches: np.ndarray  # matches to another detected track than the object's last match
    identity_matches: np.ndarray  # pairs under the best one-to-one assignment of whole tracks
    fragments: np.ndarray  # how often a track that is found again had been lost
    mostly_tracked: np.ndarray  # labelled tracks matched in at least 80 % of their frames
    partly_tracked: np.ndarray  # at least 20 %, less than 80 %
    mostly_lost: np.ndarray  # less than 20 %
    iou_sums: np.ndarray  # float64, over all matches

    @staticmethod
    def statistics(counts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """By name, from (R,) counts.

        IDF1, IDP, IDR, MOTA (at most 1, may be negative) and MOTP (mean IoU of the matches, 0.5 to 1) are fractions,
        NaN where there is nothing to divide by; the others are counts: IDs identity switches, FP and FN detections and
        objects without partner, MT, PT and ML labelled tracks.
        """
        objects, detections, identity = counts["objects"], counts["detections"], counts["identity_matches"]
        misses, false_positives = objects - counts["matches"], detections - counts["matches"]
        values = {
            "IDF1": _ratio(2 * identity, objects + detections),
            "IDP": _ratio(identity, detections),
            "IDR": _ratio(identity, objects),
            "MOTA": 1 - _ratio(misses + counts["switches"] + false_positives, objects),
            "MOTP": _ratio(counts["iou_sums"], counts["matches"]),
            "IDs": counts["switches"],
            "Frag": counts["fragments"],
            "MT": counts["mostly_tracked"],
            "PT": counts["partly_tracked"],
            "ML": counts["mostly_lost"],
            "FP": false_positives,
            "FN": misses,
        }
        return {name: np.asarray(value, np.float64) for name, value in values.items()}


def mot_instances(
    truth: GroundTruth,
    detections: Sequence[Instance],
    *,
    overlap: Overlap = "box",
    score_threshold: float = SCORE_THRESHOLD,
    class_agnostic: bool = True,
) -> MotCounts:
    """MOT counts of input that has been read.

    Args:
        overlap: "box" compares tight boxes of the masks, as the paper does; "mask" the masks themselves.
        score_threshold: least score of a detection that counts.
        class_agnostic: whether a detection may be matched to an object of another category.

    Raises:
        UserError: an option that is none.
    """
    scenes = tracking_scenes(
        truth, detections, overlap=overlap, score_threshold=score_threshold, class_agnostic=class_agnostic
    )
    return mot_scenes(scenes, np.array(list(truth.videos), np.int64))


def mot_scenes(scenes: Iterable[Scene], video_ids: np.ndarray) -> MotCounts:
    """MOT counts of scenes, summed by video; video_ids: (V,) int64, what `Scene.video` points into."""
    sums = {
        field.name: np.zeros(len(video_ids), np.float64 if field.name == "iou_sums" else np.int64)
        for field in fields(MotCounts)[1:]
    }
    for scene in scenes:
        for name, count in _scene_counts(scene).items():
            sums[name][scene.video] += count
    return MotCounts(video_ids, **sums)


def frame_partners(scene: Scene) -> np.ndarray:
    """Detected track matched to each object, frame by frame: (T, M) int64, -1 for none.

    A pair may match at IoU 0.5 or more. Objects keep their last partner, however long ago, if they may; if several
    claim one detection, the first in order has it. The rest is assigned by `frame_overlap.assign`.
    """
    frames, rows, columns = np.nonzero(scene.ious >= MATCH_IOU)
    with_pairs, starts = np.unique(frames, return_index=True)
    ends = [*starts[1:].tolist(), len(frames)]
    allowed = list(zip(rows.tolist(), columns.tolist(), strict=True))
    last: dict[int, int] = {}
    matches: list[tuple[int, int, int]] = []
    for frame, start, end in zip(with_pairs.tolist(), starts.tolist(), ends, strict=False):
        kept: dict[int, int] = {}
        taken = set()
        for m, n in allowed[start:end]:
            if last.get(m) == n and n not in taken:
                kept[m] = n
                taken.add(n)
        free = [(m, n) for m, n in allowed[start:end] if m not in kept and n not in taken]
        if free:
            kept.update(_assigned(scene, frame, free))
        last.update(kept)
        matches += [(frame, m, n) for m, n in kept.items()]
    partners = np.full(scene.truth_present.shape, -1)
    where = np.array(matches, np.int64).reshape(-1, 3)
    partners[where[:, 0], where[:, 1]] = where[:, 2]
    return partners


def _assigned(scene: Scene, frame: int, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs chosen from those that may match in a frame."""
    if len({m for m, _ in pairs}) == len({n for _, n in pairs}) == len(pairs):
        return pairs
    allowed = np.zeros(scene.ious.shape[1:], bool)
    allowed[tuple(zip(*pairs, strict=True))] = True
    rows, columns = np.flatnonzero(scene.truth_present[frame]), np.flatnonzero(scene.found_present[frame])
    chosen, others = assign(scene.ious[frame][rows][:, columns], allowed[rows][:, columns])
    return list(zip(rows[chosen].tolist(), columns[others].tolist(), strict=True))


def _scene_counts(scene: Scene) -> dict[str, int | float]:
    partners = frame_partners(scene)
    matched = partners >= 0
    frames, rows = np.nonzero(matched)
    lifespans = scene.truth_present.sum(0)
    tracked = matched.sum(0)[lifespans > 0] / lifespans[lifespans > 0]
    pairs = (scene.ious >= MATCH_IOU).sum(0)
    together = pairs[linear_sum_assignment(pairs, maximize=True)]
    return {
        "objects": int(lifespans.sum()),
        "detections": int(scene.found_present.sum()),
        "matches": len(frames),
        "switches": _switches(partners),
        "identity_matches": int(together.sum()),
        "fragments": _fragments(matched, scene.truth_present),
        "mostly_tracked": int((tracked >= 0.8).sum()),
        "partly_tracked": int(((tracked >= 0.2) & (tracked < 0.8)).sum()),
        "mostly_lost": int((tracked < 0.2).sum()),
        "iou_sums": float(scene.ious[frames, rows, partners[frames, rows]].sum()),
    }


def _switches(partners: np.ndarray) -> int:
    """Changes of partner within each labelled track, frames without partner left out."""
    owners, _ = np.nonzero(partners.T >= 0)
    partner = partners.T[partners.T >= 0]
    return int(((owners[1:] == owners[:-1]) & (partner[1:] != partner[:-1])).sum())


def _fragments(matched: np.ndarray, present: np.ndarray) -> int:
    """Gaps between matches within each labelled track, frames in which it is absent left out."""
    owners, _ = np.nonzero(present.T)
    state = matched.T[present.T]
    continues = np.append(False, (owners[1:] == owners[:-1]) & state[:-1])[: len(state)]
    return int((state & ~continues).sum() - matched.any(0).sum())


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
