"""The numbers that an evaluation consists of: what they are called, and where each comes from.

A number has a metric and a scope. The scope is "all", or the subset of the ground truth, the category or the video that
the number is about. Numbers that are shown, and tested, together are a family.

Shape letters: R resamples, V videos, K categories.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from vislab.metrics import hota, mot
from vislab.metrics.errors import ORACLES, ErrorBreakdown
from vislab.metrics.hota import HotaCounts
from vislab.metrics.inputs import GroundTruth
from vislab.metrics.matches import STATISTICS, Matches, counted_videos
from vislab.metrics.measure import Measured
from vislab.metrics.mot import MotCounts
from vislab.metrics.statistics import Resampled
from vislab.metrics.subsets import OCCLUSIONS, TRACK_LENGTHS
from vislab.metrics.visibility import GROUPS

AP, AP_BY_CATEGORY, ERRORS, VISIBILITY = "AP", "AP by category", "errors", "visibility"  # families
MOT_BOX, MOT_MASK, HOTA = "MOT on boxes", "MOT on masks", "HOTA on masks"

MASK = "mask "  # before the name of every MOT measure on masks; those on boxes, the paper's, go by the plain name
LOST_AP, ERROR_COUNT = "dAP50 ", "errors "  # before the type of error
_COUNTS = {"IDs", "Frag", "MT", "PT", "ML", "FP", "FN"}


class Key(NamedTuple):
    metric: str
    scope: str


Tables = dict[Key, np.ndarray]


@dataclass(frozen=True)
class Part:
    """Numbers that are computed together.

    tables: multiplicities of the videos, (R, V) or None for once each, to the numbers in each resample, (R,) each;
    picklable. videos: how many count for each number, in the order in which the numbers are listed. slow: whether a
    thousand resamples may take a second.
    """

    family: str
    tables: Callable[[np.ndarray | None], Tables]
    videos: Mapping[Key, int]
    slow: bool = False


def parts(measured: Measured, category_names: Sequence[str] = ()) -> Iterator[Part]:
    """All numbers of a results file; with the names of the categories, (K,), those of each category too."""
    for scope, matches in measured.matches.items():
        names = {name: Key(name, scope) for name in matches.statistics}
        videos = {key: counted_videos(matches, name) for name, key in names.items()}
        yield Part(AP, partial(_tables, matches, names), videos, slow=True)
    if measured.matches and category_names:
        yield _category_part(measured.matches["all"], category_names)
    for family, prefix, counts in _tracking(measured):
        statistics = hota.STATISTICS if isinstance(counts, HotaCounts) else mot.STATISTICS
        names = {name: Key(prefix + name, "all") for name in statistics}
        videos = dict.fromkeys(names.values(), int(_any_track(counts).sum()))
        yield Part(family, partial(_tables, counts, names), videos)
    if measured.errors:
        videos = dict.fromkeys(_error_keys(), counted_videos(measured.errors.matches, "AP"))
        yield Part(ERRORS, partial(_error_tables, measured.errors), videos, slow=True)
    if measured.visibility:
        names = {group: Key("IoU", group) for group in GROUPS}
        counted = (measured.visibility.frame_counts > 0).sum(0).tolist()
        videos = dict(zip(names.values(), counted, strict=True))
        yield Part(VISIBILITY, partial(_tables, measured.visibility, names), videos)


def per_video(measured: Measured, video_names: Sequence[str]) -> Iterator[tuple[str, Key, float, int]]:
    """MOT measures and HOTA of each video alone: family, number, value, and 1 if the video has any track, else 0.

    video_names: (V,).
    """
    for family, prefix, counts in _tracking(measured):
        present, columns = _any_track(counts), counts.per_video()
        for video, scope in enumerate(video_names):
            for name, column in columns.items():
                yield family, Key(prefix + name, scope), float(column[video]), int(present[video])


def is_count(metric: str) -> bool:
    """Whether the number counts something; all others are fractions."""
    return metric.removeprefix(MASK) in _COUNTS or metric.startswith(ERROR_COUNT)


def bounds(metric: str) -> tuple[float, float]:
    """What the number can be at least and at most."""
    if is_count(metric):
        return 0.0, math.inf
    if metric.removeprefix(MASK) == "MOTA":
        return -math.inf, 1.0
    return (-1.0, 1.0) if metric.startswith(LOST_AP) else (0.0, 1.0)


def less_is_better(metric: str) -> bool:
    """Of counts and lost AP; of tracks, though, more are better unless they are lost."""
    return (is_count(metric) and metric.removeprefix(MASK) not in ("MT", "PT")) or metric.startswith(LOST_AP)


def category_names(truth: GroundTruth) -> list[str]:
    """Names of the categories, (K,), with the id where the name alone would be ambiguous as a scope."""
    return _distinct(list(truth.categories.values()), list(truth.categories), {"all", *TRACK_LENGTHS, *OCCLUSIONS})


def video_names(truth: GroundTruth, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the videos, (V,), with the id where the name alone would be ambiguous as a scope.

    A video's name is its "name" if the file has that, else the folder of its frames, else its id. records: the file's.
    """
    names = {record["id"]: _video_name(record) for record in records}
    return _distinct([names[video] for video in truth.videos], list(truth.videos), {"all"})


def _video_name(record: Mapping[str, Any]) -> str:
    if isinstance(record.get("name"), str) and record["name"]:
        return record["name"]
    folders = {str(file).rpartition("/")[0] for file in record.get("file_names") or ()}
    return folders.pop() if len(folders) == 1 and "" not in folders else str(record["id"])


def _distinct(names: Sequence[str], identifiers: Sequence[int], reserved: Collection[str]) -> list[str]:
    repeated = {name for name, count in Counter([*names, *reserved]).items() if count > 1}
    return [f"{name} ({i})" if name in repeated else name for name, i in zip(names, identifiers, strict=True)]


def _tracking(measured: Measured) -> Iterator[tuple[str, str, MotCounts | HotaCounts]]:
    """Family, prefix of its metrics' names, and counts."""
    if measured.mot:
        yield MOT_BOX, "", measured.mot["box"]
        yield MOT_MASK, MASK, measured.mot["mask"]
    if measured.hota:
        yield HOTA, "", measured.hota


def _any_track(counts: MotCounts | HotaCounts) -> np.ndarray:
    """Which videos have a labelled or a detected track: (V,) bool."""
    return (counts.objects + counts.detections).reshape(-1) > 0


def _tables(source: Resampled, names: Mapping[str, Key], weights: np.ndarray | None) -> Tables:
    values = source.summaries(weights, list(names))
    return {key: values[name] for name, key in names.items()}


def _category_part(matches: Matches, names: Sequence[str]) -> Part:
    videos = {
        Key(name, scope): counted_videos(matches, name, category)
        for category, scope in enumerate(names)
        for name in STATISTICS
    }
    return Part(AP_BY_CATEGORY, partial(_category_tables, matches, names), videos, slow=True)


def _category_tables(matches: Matches, names: Sequence[str], weights: np.ndarray | None) -> Tables:
    values = matches.category_summaries(weights)
    return {Key(name, scope): values[name][:, k] for k, scope in enumerate(names) for name in STATISTICS}


def _error_keys() -> list[Key]:
    return [Key(prefix + oracle, "all") for prefix in (LOST_AP, ERROR_COUNT) for oracle in ORACLES]


def _error_tables(errors: ErrorBreakdown, weights: np.ndarray | None) -> Tables:
    """AP50 that each type of error costs, and how many there are."""
    lost, counts = errors.summaries(weights), _errors_by_video(errors)
    numbers = counts.sum(0, keepdims=True) if weights is None else weights @ counts
    return dict(zip(_error_keys(), [*(lost[name] for name in ORACLES), *numbers.T.astype(np.float64)], strict=True))


def _errors_by_video(errors: ErrorBreakdown) -> np.ndarray:
    """What `ErrorBreakdown.counts` sums up, by video: (V, oracles) int64."""
    matches = errors.matches
    false_negatives = ~errors.truth_found & ~matches.truth_ignored[0]
    kinds = len(ORACLES) - 3  # of those that are errors of detections
    videos = [matches.detection_video[errors.error == kind] for kind in range(kinds)]
    videos += [matches.truth_video[errors.truth_missed], matches.detection_video[errors.error >= 0]]
    videos += [matches.truth_video[false_negatives]]
    return np.stack([np.bincount(each, minlength=len(errors.video_ids)) for each in videos], 1)
