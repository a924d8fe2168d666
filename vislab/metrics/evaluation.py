"""One call from files to a table of numbers with their intervals.

Shape letters: S runs, R replicates, V videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, cast

import numpy as np
import pandas as pd

from vislab.errors import UserError
from vislab.metrics.frame_overlap import SCORE_THRESHOLD
from vislab.metrics.inputs import GroundTruth, collector_paused, load_json, read_ground_truth, read_results
from vislab.metrics.measure import METRICS, Measured, Settings, measure
from vislab.metrics.numbers import Key, Part, Tables, bounds, category_names, parts, per_video, video_names
from vislab.metrics.parallel import Workers, available_cores
from vislab.metrics.statistics import basic_interval, mean_over_drawn_runs, video_draws
from vislab.metrics.video_ap import AREAS, AreaBounds

COLUMNS = ("metric", "scope", "value", "ci_low", "ci_high", "n")
_FEW_MASKS = 20_000  # take less time than processes take to start
_BLOCK = 250  # replicates of one task
_LARGEST_FAMILY = 18  # of those that are compared: AP and AR, and AP in six subsets; or errors and their costs

Results = list[dict] | str | PathLike
Model = Results | Sequence[Results]  # one run, or several that differ in their training seed
Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class Plan:
    """What to evaluate and how; see `evaluate`. compared: make as many replicates as `compare` needs, if more."""

    settings: Settings = Settings()
    per_category: bool = False
    per_video: bool = False
    replicates: int = 1000
    seed: int = 0
    compared: bool = False

    def drawn(self, num_categories: int) -> int:
        """Bootstrap replicates to make; intervals use the first `replicates` of them.

        Holm's correction multiplies the least p-value of a family, which no bootstrap gives below 2 / replicates, by
        the size of the family. With 80 replicates for each number of the family the product is below 0.025.
        """
        family = max(_LARGEST_FAMILY, num_categories if self.per_category else 0)
        enough = 80 * family if self.compared and self.replicates else 0
        return max(self.replicates, enough)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All numbers of one model, from one run or from several that differ in their training seed."""

    plan: Plan
    runs: tuple[Measured, ...]
    families: dict[Key, str]
    videos: dict[Key, int]  # that count for the number; the smallest of all runs
    values: dict[Key, np.ndarray]  # (S,) float64
    replicates: dict[Key, np.ndarray]  # (S, R) float64, of the numbers that are about more than one video

    def value(self, key: Key) -> float:
        """Mean over the runs."""
        return float(self.values[key].mean())

    def resampled(self, key: Key, stream: int = 1) -> np.ndarray:
        """The number on drawn videos, averaged over drawn runs, (R,); stream: of the draws, see `statistics`."""
        return mean_over_drawn_runs(self.replicates[key], self.plan.seed, stream)

    def interval(self, key: Key) -> tuple[float, float]:
        """95 % basic interval; (NaN, NaN) if undefined, as from a single video, which says nothing about others."""
        if key not in self.replicates or self.videos[key] < 2:
            return float("nan"), float("nan")
        return basic_interval(self.value(key), self.resampled(key)[: self.plan.replicates], bounds(key.metric))

    def frame(self) -> pd.DataFrame:
        """One record per number, with the columns of COLUMNS."""
        rows = [(*key, self.value(key), *self.interval(key), self.videos[key]) for key in self.families]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": np.int64})


def evaluate(
    gt: dict | str | PathLike,
    results: Model,
    metrics: Sequence[str] = ("ap",),
    *,
    per_category: bool = False,
    per_video: bool = False,
    score_threshold: float = SCORE_THRESHOLD,
    class_agnostic: bool = True,
    visibility_window: int = 2,
    areas: AreaBounds = "video",
    replicates: int = 1000,
    seed: int = 0,
    workers: int | None = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Evaluate YouTube-VIS results: one record per number.

    Args:
        gt, results: paths of JSON files, or their contents. Several results in a list are runs of one model that
            differ in their training seed: each value is their mean.
        metrics: any of
            "ap": the 12 statistics of the published evaluator (`video_ap`), and AP, AP50, AP75, AR1, AR10, AR100 in the
            scopes "track length short", "medium" and "long" and, if the ground truth knows of occlusion, "occlusion
            light", "moderate" and "heavy" (`subsets`);
            "mot": IDF1, IDP, IDR, MOTA, MOTP, IDs, Frag, MT, PT, ML, FP, FN on tight boxes, as in the IFR paper, and on
            masks, with "mask " before the name (`mot`);
            "hota": HOTA, DetA, AssA, LocA and their parts, on masks (`hota`);
            "errors": "dAP50 TYPE", the AP50 that each type of error costs, and "errors TYPE", how many there are
            (`errors`);
            "visibility": IoU in evident and in faint frames (`visibility`; needs opacities in the ground truth).
        per_category: the 12 statistics of every category as well.
        per_video: the "mot" and "hota" numbers of every video as well, without intervals.
        score_threshold, class_agnostic: of "mot" and "hota", see `frame_overlap`.
        visibility_window: frames to each side in which an evident view counts as neighbour.
        areas: of "ap", where small, medium and large objects are divided: "video" at 128 x 128 and 256 x 256 pixels as
            in YouTube-VIS, "image" at 32 x 32 and 96 x 96 as in COCO.
        replicates: bootstrap replicates over videos behind each 95 % interval; 0 leaves the intervals undefined.
        seed: of the bootstrap; equal seeds give equal intervals.
        workers: processes. No number depends on it. None: as many as there are cores, 1 for little data. With more
            than 1, a script must make the call under `if __name__ == "__main__":`.
        progress: called with the name of a stage, what is done of it, and its total.

    Returns:
        Columns metric, scope ("all", a subset, or the name of a category or video), value, ci_low, ci_high (fractions
        and counts; NaN where undefined, as are intervals from a single video) and n: videos with ground truth that
        counts for the number; of "mot" and "hota", videos with any track.

    Raises:
        UserError: malformed input, or an option that is none.
    """
    settings = Settings(checked_metrics(metrics), score_threshold, class_agnostic, visibility_window, _checked(areas))
    plan = Plan(settings, per_category, per_video, replicates, seed)
    return evaluations(gt, [results], plan, workers, progress)[0].frame()


def _checked(areas: AreaBounds) -> AreaBounds:
    if areas not in AREAS:
        raise UserError(f"areas is {areas!r}, expected one of {', '.join(AREAS)}")
    return areas


def checked_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names, each once; raises UserError for one that there is not, or if there is none."""
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    for name in names:
        if name not in METRICS:
            raise UserError(f"metrics: there is no metric {name!r}; there are {', '.join(METRICS)}")
    if not names:
        raise UserError(f"metrics: none is named; there are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def evaluations(
    gt: dict | str | PathLike,
    models: Sequence[Model],
    plan: Plan,
    workers: int | None = 1,
    progress: Progress | None = None,
) -> list[Evaluation]:
    """`evaluate` for several models: the same ground truth, read once, and the same draws of its videos."""
    if type(plan.replicates) is not int or plan.replicates < 0:
        raise UserError(f"replicates is {plan.replicates!r}, expected an integer >= 0")
    report = progress or (lambda stage, done, total: None)
    with collector_paused():
        data, source = _loaded(gt, "ground truth")
        truth = read_ground_truth(data, source)
        named_videos = video_names(truth, data["videos"]) if plan.per_video else []
        named_categories = category_names(truth) if plan.per_category else []
        del data  # before the collector walks through it
    runs = [_runs(model) for model in models]
    draws = video_draws(len(truth.videos), plan.drawn(len(truth.categories)), plan.seed)
    with Workers(_sensible(truth, sum(map(len, runs))) if workers is None else workers) as pool:
        measured = [[_measured(truth, run, plan.settings, pool, report) for run in model] for model in runs]
        return [_evaluation(plan, model, named_categories, named_videos, draws, pool, report) for model in measured]


def _runs(model: Model) -> list[tuple[Results, str]]:
    """Every run, and what messages call it if it has no file name."""
    if isinstance(model, (list, tuple)) and any(isinstance(run, (str, PathLike, list)) for run in model):
        return [(cast(Results, run), f"results {number}") for number, run in enumerate(model, 1)]
    return [(cast(Results, model), "results")]


def _sensible(truth: GroundTruth, num_runs: int) -> int:
    """Worker processes for so many results, if each has as many tracks as the ground truth."""
    masks = sum(instance.length for instance in truth.instances) * (1 + num_runs)
    return 1 if masks < _FEW_MASKS else available_cores()


def _loaded(data: Any, name: str) -> tuple[Any, str]:
    """Contents, and what messages call them."""
    return (load_json(data), str(data)) if isinstance(data, (str, PathLike)) else (data, name)


def _measured(
    truth: GroundTruth, run: tuple[Results, str], settings: Settings, pool: Workers, report: Progress
) -> Measured:
    with collector_paused():
        data, source = _loaded(*run)
        detections = read_results(data, truth, source)
        del data
    return measure(truth, detections, settings, pool, lambda done, total: report(f"matching {source}", done, total))


def _evaluation(
    plan: Plan,
    runs: Sequence[Measured],
    named_categories: Sequence[str],
    named_videos: Sequence[str],
    draws: np.ndarray,
    pool: Workers,
    report: Progress,
) -> Evaluation:
    all_parts = [list(parts(run, named_categories)) for run in runs]
    families = {key: part.family for part in all_parts[0] for key in part.videos}
    counts = [{key: count for part in own for key, count in part.videos.items()} for own in all_parts]
    videos = {key: min(count[key] for count in counts) for key in families}
    once = [_joined(part.tables(None) for part in own) for own in all_parts]
    many = [_replicates(own, draws, pool, report) for own in all_parts]
    values = {key: np.concatenate([table[key] for table in once]) for key in families}
    replicates = {key: np.stack([table[key] for table in many]) for key in families}
    for alone in zip(*(per_video(run, named_videos) for run in runs), strict=True):
        family, key, _, count = alone[0]
        families[key], videos[key] = family, count
        values[key] = np.array([value for _, _, value, _ in alone])
    return Evaluation(plan, tuple(runs), families, videos, values, replicates)


def _replicates(own: Sequence[Part], draws: np.ndarray, pool: Workers, report: Progress) -> Tables:
    """Numbers on drawn videos, (R,) each; draws: (R, V)."""
    if not len(draws):
        return {key: np.zeros(0) for part in own for key in part.videos}
    slow = [part for part in own if part.slow]
    blocks = [draws[start : start + _BLOCK] for start in range(0, max(len(draws), 1), _BLOCK)]
    tasks = [(part, block) for part in slow for block in blocks]
    done = pool.map(_block_tables, tasks, lambda number: report("intervals", number, len(tasks)))
    tables = _joined(part.tables(draws) for part in own if not part.slow)
    for position in range(len(slow)):
        mine = done[position * len(blocks) : (position + 1) * len(blocks)]
        tables |= {key: np.concatenate([block[key] for block in mine]) for key in mine[0]}
    return tables


def _block_tables(task: tuple[Part, np.ndarray]) -> Tables:
    part, draws = task
    return part.tables(draws)


def _joined(tables: Iterable[Tables]) -> Tables:
    return {key: table[key] for table in tables for key in table}
