"""From checked files to counts: every metric that is asked for, group of videos by group of videos.

No metric looks at more than one video at a time. So videos are measured in groups, in several processes if wanted, and
the counts of the groups are put together; what comes out is, bit for bit, what the metric's own module gives for all
videos at once.

Shape letters: V videos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TypeVar

import numpy as np

from vislab.metrics.errors import ErrorBreakdown, error_breakdown
from vislab.metrics.frame_overlap import SCORE_THRESHOLD, tracking_scenes
from vislab.metrics.hota import HotaCounts, hota_scenes
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.matches import Matches
from vislab.metrics.mot import MotCounts, mot_scenes
from vislab.metrics.parallel import Workers
from vislab.metrics.subsets import OCCLUSIONS, occlusion, subset_matches
from vislab.metrics.video_ap import AreaBounds, gathered
from vislab.metrics.visibility import VisibilityIoU, visibility_iou_instances

METRICS = ("ap", "mot", "hota", "errors", "visibility")
_GROUP_MASKS = 4000  # masks after which a group of videos is full
_OCCLUSION_FIELDS = {"occlusion", "visible_fractions"}

Counts = TypeVar("Counts", MotCounts, HotaCounts, VisibilityIoU)


@dataclass(frozen=True)
class Settings:
    """What to measure: names of METRICS, and the options of the metrics' modules."""

    metrics: tuple[str, ...] = ("ap",)
    score_threshold: float = SCORE_THRESHOLD
    class_agnostic: bool = True
    visibility_window: int = 2
    areas: AreaBounds = "video"


@dataclass(frozen=True, eq=False)
class Measured:
    """What one results file comes to: enough for any statistic, for any resampling of the videos. None: not asked for.

    matches: as `subsets.subset_matches` names them. mot: for the "box" and the "mask" overlap.
    """

    video_ids: np.ndarray  # (V,) int64, rising
    matches: Mapping[str, Matches] = field(default_factory=dict)
    mot: Mapping[str, MotCounts] = field(default_factory=dict)
    hota: HotaCounts | None = None
    errors: ErrorBreakdown | None = None
    visibility: VisibilityIoU | None = None


def measure(
    truth: GroundTruth,
    detections: Sequence[Instance],
    settings: Settings,
    workers: Workers,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """All counts of a results file.

    Args:
        truth, detections: as `inputs.read_ground_truth` and `inputs.read_results` give them.
        on_done: called with the numbers of labelled and detected tracks that have been measured, and of all.

    Raises:
        UserError: something in the ground truth that a metric needs is missing or malformed, or an option is none.
    """
    groups = _groups(truth, detections)
    ends = np.cumsum([len(part.instances) + len(found) for part, found in groups]).tolist()
    occlusion_known = any(_OCCLUSION_FIELDS & instance.record.keys() for instance in truth.instances)
    parts = workers.map(
        partial(_measure_group, settings, occlusion_known), groups, lambda done: on_done(ends[done - 1], ends[-1])
    )
    return Measured(
        video_ids=np.array(list(truth.videos), np.int64),
        matches={name: _merged_matches(truth, [part.matches[name] for part in parts]) for name in parts[0].matches},
        mot={name: _merged_counts([part.mot[name] for part in parts]) for name in parts[0].mot},
        hota=_merged_counts([part.hota for part in parts if part.hota]) if parts[0].hota else None,
        errors=_merged_errors(truth, [part.errors for part in parts if part.errors]) if parts[0].errors else None,
        visibility=_merged_counts([p.visibility for p in parts if p.visibility]) if parts[0].visibility else None,
    )


def _groups(truth: GroundTruth, detections: Sequence[Instance]) -> list[tuple[GroundTruth, list[Instance]]]:
    """The input cut into runs of videos, in their order; at least one group."""
    labelled, found = _by_video(truth.instances), _by_video(detections)
    runs: list[list[int]] = [[]]
    masks = 0
    for video in truth.videos:
        if masks >= _GROUP_MASKS:
            runs.append([])
            masks = 0
        runs[-1].append(video)
        masks += sum(instance.length for instance in (*labelled[video], *found[video]))
    return [
        (
            replace(
                truth,
                videos={video: truth.videos[video] for video in videos},
                instances=[instance for video in videos for instance in labelled[video]],
            ),
            [instance for video in videos for instance in found[video]],
        )
        for videos in runs
    ]


def _by_video(instances: Sequence[Instance]) -> Mapping[int, list[Instance]]:
    """Instances by video, in their order."""
    groups: dict[int, list[Instance]] = defaultdict(list)
    for instance in instances:
        groups[instance.video_id].append(instance)
    return groups


def _measure_group(settings: Settings, occlusion_known: bool, group: tuple[GroundTruth, list[Instance]]) -> Measured:
    truth, detections = group
    metrics, video_ids = settings.metrics, np.array(list(truth.videos), np.int64)
    scenes_of = partial(
        tracking_scenes, truth, detections, score_threshold=settings.score_threshold,
        class_agnostic=settings.class_agnostic,
    )  # fmt: skip
    mot, hota = {}, None
    if "mot" in metrics:
        mot["box"] = mot_scenes(scenes_of(overlap="box"), video_ids)
    if "mot" in metrics or "hota" in metrics:
        scenes = list(scenes_of(overlap="mask"))
        if "mot" in metrics:
            mot["mask"] = mot_scenes(scenes, video_ids)
        hota = hota_scenes(scenes, video_ids) if "hota" in metrics else None
    return Measured(
        video_ids,
        matches=_subset_matches(truth, detections, occlusion_known, settings.areas) if "ap" in metrics else {},
        mot=mot,
        hota=hota,
        errors=error_breakdown(truth, detections) if "errors" in metrics else None,
        visibility=visibility_iou_instances(truth, detections, settings.visibility_window)
        if "visibility" in metrics
        else None,
    )


def _subset_matches(
    truth: GroundTruth, detections: list[Instance], occlusion_known: bool, areas: AreaBounds
) -> dict[str, Matches]:
    """`subsets.subset_matches`, with all subsets also where only other groups say how occluded objects are."""
    found = subset_matches(truth, detections, areas=areas)
    if occlusion_known and OCCLUSIONS[0] not in found:
        for instance in truth.instances:
            occlusion(instance)  # fails, unless it is a crowd
        everything = found["all"]  # so nothing but crowds is labelled here, and what counts is the same in every subset
        for name in OCCLUSIONS:
            found[name] = replace(
                everything,
                matched=everything.matched[:1],
                ignored=everything.ignored[:1],
                truth_ignored=everything.truth_ignored[:1],
            )
    return found


def _merged_counts(parts: Sequence[Counts]) -> Counts:
    """Arrays by video, one group after the other."""
    kind = type(parts[0])
    return kind(**{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(kind)})


def _merged_matches(truth: GroundTruth, parts: Sequence[Matches]) -> Matches:
    return Matches(**gathered(truth, _columns(parts)))


def _merged_errors(truth: GroundTruth, parts: Sequence[ErrorBreakdown]) -> ErrorBreakdown:
    columns = _columns([part.matches for part in parts])
    names = ("error", "fixed_to", "truth_found", "truth_missed")
    objects = 0
    for part, column in zip(parts, columns, strict=True):
        column |= {name: getattr(part, name) for name in names}
        column["fixed_to"] = np.where(part.fixed_to >= 0, part.fixed_to + objects, -1)
        objects += len(part.truth_found)
    merged = gathered(truth, columns)
    own = {name: merged.pop(name) for name in names}
    return ErrorBreakdown(matches=Matches(**merged), **own)


def _columns(parts: Sequence[Matches]) -> list[dict[str, np.ndarray]]:
    """Columns of each group's matches, with videos counted through all groups."""
    whole_file = ("video_ids", "category_ids", "category_names")
    videos, columns = 0, []
    for part in parts:
        own = {each.name: getattr(part, each.name) for each in fields(part) if each.name not in whole_file}
        own |= {name: own[name] + np.int32(videos) for name in ("detection_video", "truth_video")}
        columns.append(own)
        videos += len(part.video_ids)
    return columns
