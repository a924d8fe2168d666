"""Objects whose masks refinement changes most, found from the results of one trained model without and with it.

Results are those of a YouTube-VIS file, read by `metrics.inputs`; nothing here knows how they were predicted. Shape
letters: N detections, M labelled objects, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from vislab.metrics.best_tracks import distinct_tracks
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.video_iou import frame_intersections, video_iou

_TOP = 10  # tracks of a video that are looked at, as in AR10
_SAME_TRACK = 0.1  # least video IoU at which tracks without and with refinement show one object
LOST, FOUND = 0.1, 0.5  # a mask of less IoU is lost, one of at least so much is found


@dataclass(frozen=True)
class Refined:
    """One object of a video without and with refinement.

    quality: (2, T), how good its masks are without and with refinement: their IoU with the labelled one, NaN where that
    is absent; for an object without label 1 where there is a mask, else 0. in_any_track: (2, T), the same of the mask
    that fits it best in each frame, whichever track has it; None without label.
    """

    video_id: int
    name: str
    before: Instance | None
    after: Instance | None
    quality: np.ndarray
    truth: Instance | None = None
    in_any_track: np.ndarray | None = None

    @property
    def gain(self) -> np.ndarray:
        """(T,) quality that refinement adds, negative where it takes some away; 0 where the object is absent."""
        return np.nan_to_num(self.quality[1] - self.quality[0])


@dataclass(frozen=True)
class Stretch:
    """The frames [first, first + length) of an object, in which refinement adds `gain` in sum."""

    shown: Refined
    first: int
    length: int
    gain: float

    @property
    def frames(self) -> range:
        return range(self.first, self.first + self.length)

    @property
    def place(self) -> str:
        """Who and when, in words."""
        return f"{self.shown.name}, frames {self.first} to {self.first + self.length - 1}"

    def quality(self) -> tuple[float, float]:
        """Means over the frames without and with refinement; NaN if the object is absent in all of them."""
        inside = self.shown.quality[:, self.first : self.first + self.length]
        known = inside[:, ~np.isnan(inside[0])]
        return (float(known[0].mean()), float(known[1].mean())) if known.size else (np.nan, np.nan)


def refined_objects(
    truth: GroundTruth, before: Sequence[Instance], after: Sequence[Instance], video_id: int
) -> list[Refined]:
    """The objects of a video: those labelled, each with the detection that fits it best on either side; in a video
    without labels the detected ones, paired by video IoU. Crowds are left out."""
    labelled = [i for i in truth.instances if i.video_id == video_id and not i.is_crowd]
    sides = [_best_detections(results, video_id) for results in (before, after)]
    if labelled:
        fits = (_fitting(labelled, found) for found in sides)
        return [
            Refined(
                video_id,
                truth.categories[own.category_id],
                old,
                new,
                np.stack([old_iou, new_iou]),
                own,
                np.stack([old_best, new_best]),
            )
            for own, (old, old_iou, old_best), (new, new_iou, new_best) in zip(labelled, *fits, strict=True)
        ]
    return [
        Refined(
            video_id,
            truth.categories[new.category_id],
            old,
            new,
            np.stack([old.mask_areas > 0, new.mask_areas > 0]).astype(float),
        )
        for old, new in _paired(*sides)
    ]


def _best_detections(results: Sequence[Instance], video_id: int) -> list[Instance]:
    """Those of highest score, each track once: results may hold one under several categories."""
    return distinct_tracks(r for r in results if r.video_id == video_id)[:_TOP]


def _fitting(
    labelled: Sequence[Instance], found: Sequence[Instance]
) -> Iterator[tuple[Instance | None, np.ndarray, np.ndarray]]:
    """For each labelled object the detection of greatest video IoU, whatever its category, None where none overlaps it;
    the IoU of its masks, and of the best of all masks in each frame: (T,), NaN where the object is absent."""
    overlaps, shared = video_iou(found, labelled), frame_intersections(found, labelled)
    for m, own in enumerate(labelled):
        nothing = np.where(own.mask_areas > 0, 0.0, np.nan)
        ious = [
            nothing + shared[:, n, m] / np.maximum(each.mask_areas + own.mask_areas - shared[:, n, m], 1)
            for n, each in enumerate(found)
        ]
        best = int(overlaps[:, m].argmax()) if overlaps[:, m].any() else None
        in_any = np.max(ious, axis=0) if ious else nothing
        yield (None, nothing, in_any) if best is None else (found[best], ious[best], in_any)


def _paired(before: Sequence[Instance], after: Sequence[Instance]) -> Iterator[tuple[Instance, Instance]]:
    overlaps = video_iou(before, after)
    for n, m in zip(*linear_sum_assignment(-overlaps), strict=True):
        if overlaps[n, m] >= _SAME_TRACK:
            yield before[n], after[m]


def most_changed(objects: Iterable[Refined], length: int, sign: int = 1) -> list[Stretch]:
    """Of each object the stretch of `length` frames in which refinement adds most (sign 1) or takes most away (-1), if
    it does at all; the greatest first, but one of each video before the second of any. Of equal ones the middle.

    In one of its frames at least the mask is found without refinement and with it: what was never there is not lost.
    """
    found = []
    for shown in objects:
        in_both = (shown.quality >= FOUND).all(axis=0)
        gains, anchors = (np.convolve(each, np.ones(length), "valid") for each in (sign * shown.gain, in_both))
        sums = np.where(anchors > 0.5, gains, -np.inf)
        best = np.flatnonzero(np.isclose(sums, sums.max()))
        if sums.max() > 1e-9:
            first = int(best[len(best) // 2])
            found.append(Stretch(shown, first, length, float(sign * sums[first])))
    found.sort(key=lambda stretch: -abs(stretch.gain))
    firsts = {stretch.shown.video_id: stretch for stretch in reversed(found)}
    return sorted(found, key=lambda stretch: firsts[stretch.shown.video_id] is not stretch)


def summary(objects: Sequence[Refined], names: dict[int, str], length: int, window: int, count: int = 3) -> list[str]:
    """What refinement changes in all of these objects, the losses as well as the gains, in lines. names: of videos."""
    quality = np.concatenate([shown.quality for shown in objects], axis=1)
    quality = quality[:, ~np.isnan(quality[0])]
    lost, found = quality < LOST, quality >= FOUND
    measure = "mask IoU" if any(shown.truth for shown in objects) else "share of frames with a mask (no labels)"
    recovered, broken = lost[0] & found[1], found[0] & lost[1]
    lines = [
        f"{len(objects)} objects of {len({shown.video_id for shown in objects})} videos, {quality.shape[1]} frames: "
        f"{measure} {quality[0].mean():.3f} without refinement, {quality[1].mean():.3f} with a window of {window}",
        f"masks lost without and found with it: {_count(recovered, objects, 0)}",
        f"masks found without and lost with it: {_count(broken, objects, 1)}",
    ]
    for title, sign in (("largest gains", 1), ("largest losses", -1)):
        lines.append(f"{title}:")
        for stretch in most_changed(objects, length, sign)[:count]:
            old, new = stretch.quality()
            lines.append(f"  video {names[stretch.shown.video_id]}, {stretch.place}: {old:.2f} to {new:.2f}")
        if lines[-1].endswith(":"):
            lines.append("  none")
    return lines


def _count(changed: np.ndarray, objects: Sequence[Refined], side: int) -> str:
    """How many masks of the objects' tracks changed, and how often another track had one where this one has not.

    changed: over the frames in which an object is present, object after object. side: 0 without refinement, 1 with it.
    """
    total = f"{int(changed.sum())}"
    if any(shown.in_any_track is None for shown in objects):
        return total
    best = np.concatenate([shown.in_any_track[side] for shown in objects])  # type: ignore[index]
    elsewhere = changed & (best[~np.isnan(best)] >= FOUND)
    other = "without" if side == 0 else "with"
    return f"{total}, {int(elsewhere.sum())} of them in another track {other} it"
