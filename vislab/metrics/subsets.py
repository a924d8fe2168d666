"""AP and AR by track length and by occlusion: the statistics on subsets of the ground truth.

A subset works as a range of areas does in the published evaluator (`video_ap`): ground truth outside of it is ignored,
so that the detection which matches it counts neither as right nor as wrong.

Track length is the number of frames in which an object has a mask. The bounds are those of TIVE (Jia et al.,
Neurocomputing 545, 2023; wenhe-jia/TIVE 0566d9a, tivecv/quantify.py:373): up to 16 annotated frames are short, up to 32
medium, more are long. A detection has a track length too; as in TIVE, one that matches nothing is ignored outside of
the range, and counts as wrong in it. (In TIVE, though, an ignored object takes any number of detections.)

Occlusion is that of OVIS (Qi et al., "Occluded Video Instance Segmentation: Dataset and ICCV 2021 Challenge",
arXiv 2111.07950; qjy981010/cocoapi 886baff, PythonAPI/pycocotools/oviseval.py:84-108, 289, 562): every frame in which
the object is present has a score, no occlusion 0, slight 0.25, severe 0.75; that of the object is the mean over the
more occluded half of its frames, rounded up; light is [0, 0.25], moderate [0.25, 0.5], heavy [0.5, 1]. Both bounds
belong to a level, so an object on one counts in two. How occluded a false positive is cannot be known: it counts as
wrong in every level. Where the ground truth has the visible fraction of each frame instead of OVIS's labels, the score
of the frame is one minus that: on the same scale, but measured, not judged by eye. What lies outside of the image is
not visible either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vislab.errors import UserError
from vislab.metrics.inputs import GroundTruth, Instance, is_number, listed, shown
from vislab.metrics.matches import Matches
from vislab.metrics.video_ap import AREAS, AreaBounds, Ranges, match_instances

TRACK_LENGTHS = ("track length short", "track length medium", "track length long")
OCCLUSIONS = ("occlusion light", "occlusion moderate", "occlusion heavy")
_OCCLUSION_FIELDS = {"occlusion", "visible_fractions"}
_LABELS = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}


def subset_matches(
    truth: GroundTruth,
    detections: Sequence[Instance],
    length_bounds: tuple[int, int] = (16, 32),
    areas: AreaBounds = "video",
) -> dict[str, Matches]:
    """`video_ap.match_instances` under "all", and the same for each subset, under its name: the IoUs are found once.

    The names are those of TRACK_LENGTHS and, if annotations have it, OCCLUSIONS. The matches of a subset give AP, AP50,
    AP75, AR1, AR10 and AR100, not the statistics by area (see `Matches.statistics`).

    Args:
        truth, detections: as `inputs.read_ground_truth` and `inputs.read_results` give them. For occlusion, every
            annotation has "occlusion", a label or null per frame, as in OVIS's files, or "visible_fractions", a number
            from 0 to 1 per frame (null allowed where it is absent); crowds may do without.
        length_bounds: frames of the longest short and of the longest medium track.
        areas: as in `video_ap.match`.

    Raises:
        UserError: bounds that do not rise, or occlusion that is malformed or only known in part.
    """
    short, medium = length_bounds
    if not 0 < short < medium:
        raise UserError(f"length_bounds is {short}, {medium}; expected two rising numbers of frames")
    lengths = [(0, short), (short + 1, medium), (medium + 1, math.inf)]
    names, ranges = [*TRACK_LENGTHS], [AREAS[areas], Ranges(lengths, track_length, track_length)]
    if any(_OCCLUSION_FIELDS & instance.record.keys() for instance in truth.instances):
        names += OCCLUSIONS
        ranges.append(Ranges([(0, 0.25), (0.25, 0.5), (0.5, 1)], occlusion, None))
    matches = match_instances(truth, detections, ranges)
    sizes = len(AREAS[areas].bounds)
    rows = {"all": slice(sizes)} | {name: slice(row, row + 1) for row, name in enumerate(names, start=sizes)}
    return {name: _rows(matches, chosen) for name, chosen in rows.items()}


def track_length(instance: Instance) -> int:
    """Frames in which the instance has a mask that is not empty."""
    return instance.num_masks


def occlusion(instance: Instance) -> float:
    """Occlusion of a labelled object in [0, 1], by the rule at the top of this file; NaN if it is never present."""
    if instance.is_crowd and not _OCCLUSION_FIELDS & instance.record.keys():
        return math.nan
    scores = sorted(_labelled(instance) if "occlusion" in instance.record else _measured(instance))
    worse = scores[-math.ceil(len(scores) / 2) :]
    return sum(worse) / len(worse) if worse else math.nan


def _rows(matches: Matches, rows: slice) -> Matches:
    """The matches of some of the ranges."""
    return replace(
        matches,
        matched=matches.matched[rows],
        ignored=matches.ignored[rows],
        truth_ignored=matches.truth_ignored[rows],
    )


def _labelled(instance: Instance) -> list[float]:
    """Score of each frame that has a label, as in OVIS."""
    labels = _per_frame(instance, "occlusion")
    for frame, label in enumerate(labels):
        if label is not None and (not isinstance(label, str) or label not in _LABELS):
            expected = f"{', '.join(_LABELS)} or null"
            raise UserError(f"{instance.where}.occlusion[{frame}] is {shown(label)}, expected {expected}")
    return [_LABELS[label] for label in labels if label is not None]


def _measured(instance: Instance) -> list[float]:
    """One minus the visible fraction, in each frame where the object has a mask."""
    fractions = _per_frame(instance, "visible_fractions")
    present = (instance.mask_areas > 0).tolist()
    for frame, value in enumerate(fractions):
        absent = value is None and not present[frame]
        if not absent and not (is_number(value) and 0 <= value <= 1):
            raise UserError(
                f"{instance.where}.visible_fractions[{frame}] is {shown(value)}, expected a number from 0 to 1"
            )
    return [1 - value for value, seen in zip(fractions, present, strict=True) if seen]


def _per_frame(instance: Instance, field: str) -> list:
    values = listed(instance.record, field, instance.where)
    if len(values) != instance.length:
        raise UserError(f"{instance.where}.{field} has {len(values)} entries, segmentations has {instance.length}")
    return values
