"""One call from files to a table of numbers with their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from vislab.errors import UserError
from vislab.metrics.inputs import load_json, read_ground_truth, read_results
from vislab.metrics.matches import STATISTICS, Matches, counted_videos, mean_defined
from vislab.metrics.statistics import basic_interval, video_draws
from vislab.metrics.video_ap import match_instances
from vislab.metrics.visibility import GROUPS, VisibilityIoU, visibility_iou_instances

METRICS = ("ap", "visibility")
COLUMNS = ("metric", "scope", "value", "ci_low", "ci_high", "n")

Row = tuple[str, str, float, float, float, int]


def evaluate(
    gt: dict | str | PathLike,
    results: list[dict] | str | PathLike,
    metrics: Sequence[str] = ("ap",),
    *,
    per_category: bool = False,
    replicates: int = 1000,
    seed: int = 0,
    visibility_window: int = 2,
) -> pd.DataFrame:
    """Evaluate YouTube-VIS results: one record per number.

    Args:
        gt, results: paths of JSON files, or their contents.
        metrics: "ap" gives the 12 statistics of the published evaluator (`video_ap`); "visibility" gives the mask IoU
            of evident and faint frames (`visibility`; needs opacities in the ground truth).
        per_category: the 12 statistics of every category as well.
        replicates: bootstrap replicates over videos behind each 95 % interval; 0 leaves the intervals undefined.
        seed: of the bootstrap; equal seeds give equal intervals.
        visibility_window: frames to each side in which an evident view counts as neighbour.

    Returns:
        Columns metric (AP, AP50, ..., IoU), scope ("all", a category's name, or a group of frames), value, ci_low,
        ci_high (fractions; NaN where undefined) and n (videos with ground truth that counts for the number).

    Raises:
        UserError: malformed input, or an unknown metric.
    """
    metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"metrics: there is no metric {name!r}; there are {', '.join(METRICS)}")
    gt_data, gt_source = _loaded(gt, "ground truth")
    results_data, results_source = _loaded(results, "results")
    truth = read_ground_truth(gt_data, gt_source)
    detections = read_results(results_data, truth, results_source)
    draws = video_draws(len(truth.videos), replicates, seed)
    rows: list[Row] = []
    for name in dict.fromkeys(metrics):
        if name == "ap":
            rows += _ap_rows(match_instances(truth, detections), draws, per_category)
        else:
            rows += _visibility_rows(visibility_iou_instances(truth, detections, visibility_window), draws)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _loaded(data: Any, name: str) -> tuple[Any, str]:
    """Contents, and what messages call them."""
    return (load_json(data), str(data)) if isinstance(data, (str, PathLike)) else (data, name)


def _ap_rows(matches: Matches, draws: np.ndarray, per_category: bool) -> Iterable[Row]:
    values, resampled = matches.category_summaries(), matches.category_summaries(draws)
    for name in STATISTICS:
        value = float(mean_defined(values[name])[0])
        interval = basic_interval(value, mean_defined(resampled[name]))
        yield name, "all", value, *interval, counted_videos(matches, name)
    for category, scope in enumerate(_scopes(matches) if per_category else ()):
        for name in STATISTICS:
            value = float(values[name][0, category])
            interval = basic_interval(value, resampled[name][:, category])
            yield name, scope, value, *interval, counted_videos(matches, name, category)


def _scopes(matches: Matches) -> list[str]:
    """Names of the categories, with the id where the name alone would be ambiguous."""
    names = matches.category_names.tolist()
    repeated = {name for name, count in Counter([*names, "all"]).items() if count > 1}
    identifiers = matches.category_ids.tolist()
    return [f"{name} ({i})" if name in repeated else name for name, i in zip(names, identifiers, strict=True)]


def _visibility_rows(visibility: VisibilityIoU, draws: np.ndarray) -> Iterable[Row]:
    values, resampled = visibility.summaries(), visibility.summaries(draws)
    for group, scope in enumerate(GROUPS):
        value = float(values[scope][0])
        videos = int((visibility.frame_counts[:, group] > 0).sum())
        yield "IoU", scope, value, *basic_interval(value, resampled[scope]), videos
