"""Two models on the same videos: which differences the data support, and what it would take to see the others.

A difference is that of `statistics.paired_difference`: both models on the same draws of videos, and with equally many
runs of each also on the same draws of runs. Its interval is not corrected for the number of comparisons; its p-value
is, within each family of numbers that stand in one table (Holm). The data support a difference if the corrected
p-value is below 0.05. Resamples of very few videos are all alike, and would make any difference certain. So a p-value
from n videos is never less than 2 / 2^n: a test that only assumes the sign of each video's difference to be equally
likely either way, were there none, cannot give less.

A difference that they do not support may be absent or just too small to see. How much data it would take, if the true
difference were the one that was measured, says which of the two is worth finding out: with several runs of both
models, how many runs of each (two-sample t test); with single runs, how many videos.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike

import numpy as np
import pandas as pd
from scipy import special, stats

from vislab.metrics.evaluation import Evaluation, Model, Plan, Progress, evaluations
from vislab.metrics.numbers import AP, AP_BY_CATEGORY, Key
from vislab.metrics.statistics import holm, mean_and_std, percentile_interval, two_sided_p

COLUMNS = (
    "family", "metric", "scope", "value", "other", "difference", "ci_low", "ci_high", "p_value", "p_holm", "supported",
    "n", "needed", "needed_unit",
)  # fmt: skip
SIGNIFICANCE, POWER = 0.05, 0.8


def compare(
    gt: dict | str | PathLike,
    results: Model,
    others: Model,
    plan: Plan = Plan(),  # noqa: B008 (frozen)
    *,
    workers: int | None = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare two models, each given by its results or by a list of them, one per training seed.

    Args:
        gt, results, workers, progress: as for `evaluation.evaluate`. others: as results.
        plan: what to measure; `replicates` is raised to what Holm's correction needs (`drawn`).

    Returns:
        `comparison` of the two.

    Raises:
        UserError: malformed input, or an option that is none.
    """
    first, second = evaluations(gt, [results, others], replace(plan, compared=True), workers, progress)
    return comparison(first, second)


def comparison(first: Evaluation, second: Evaluation) -> pd.DataFrame:
    """One record per number that both have: all but those of single videos, in subsets and categories only AP.

    Columns: family, metric, scope; value and other, the number of the first and of the second; difference, the first
    minus the second, with the 95 % interval ci_low to ci_high and p_value; p_holm, corrected within the family;
    supported; n, videos that count for it; needed, how many there would have to be (NaN if supported, if the difference
    is undefined, or if the runs do not tell, infinite if there is no difference) of needed_unit ("videos" or "seeds").
    """
    keys = [key for key in first.replicates if _is_compared(first.families[key], key)]
    numbers = Counter(first.families[key] for key in keys)
    rows = [_row(first, second, key, numbers[first.families[key]]) for key in keys]
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name not in ("p_holm", "supported")])
    frame["p_holm"] = frame.groupby("family", sort=False)["p_value"].transform(lambda values: holm(values.to_numpy()))
    frame["supported"] = frame["p_holm"] < SIGNIFICANCE
    frame.loc[frame["supported"], "needed"] = math.nan
    return frame[list(COLUMNS)]


def needed_seeds(difference: float, std: float) -> float:
    """Runs of each of two models after which a difference of their means is seen with a probability of 80 %.

    Seen: a two-sided two-sample t test with equally many runs gives p < 0.05. Its power is that of the noncentral t
    distribution with 2 n - 2 degrees of freedom and noncentrality d sqrt(n / 2), d = difference / std (Cohen,
    Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2).

    Args:
        difference: true difference of the means.
        std: standard deviation over seeds, common to both.

    Returns:
        At least 2; infinite for no difference; NaN if an argument is.
    """
    if math.isnan(difference) or math.isnan(std):
        return math.nan
    if difference == 0:
        return math.inf
    effect = abs(difference) / std if std > 0 else math.inf
    low, high = 1, 2  # too few, enough
    while high < 1e9 and not _power(effect, high) >= POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(effect, middle) >= POWER else (middle, high)
    return float(high)


def needed_videos(difference: float, standard_error: float, videos: int, numbers: int = 1) -> float:
    """Videos after which a paired difference is seen (two-sided, p < 0.05 / numbers) with a probability of 80 %.

    The standard error is taken to fall with the root of the number of videos, and the difference to be normal.

    Args:
        difference: true difference. standard_error: of its estimate from so many `videos`.
        numbers: how many are tested together; Holm's correction asks this much of the first one.

    Returns:
        Infinite for no difference; NaN if an argument is.
    """
    if math.isnan(difference) or math.isnan(standard_error):
        return math.nan
    if difference == 0:
        return math.inf
    seen = special.ndtri(1 - SIGNIFICANCE / numbers / 2) + special.ndtri(POWER)
    return float(math.ceil(videos * (seen * standard_error / difference) ** 2))


def _power(effect: float, runs: int) -> float:
    if math.isinf(effect):
        return 1.0
    freedom, shift = 2 * runs - 2, effect * math.sqrt(runs / 2)
    limit = stats.t.ppf(1 - SIGNIFICANCE / 2, freedom)
    if freedom > 10_000:  # normal to four digits; the noncentral t may fail here
        return float(special.ndtr(shift - limit) + special.ndtr(-shift - limit))
    return float(stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift))


def _is_compared(family: str, key: Key) -> bool:
    return key.metric == "AP" or family != AP_BY_CATEGORY and (family != AP or key.scope == "all")


def _row(first: Evaluation, second: Evaluation, key: Key, numbers: int) -> dict[str, object]:
    paired = len(first.runs) == len(second.runs)
    replicates = first.resampled(key) - second.resampled(key, stream=1 if paired else 2)
    videos = min(first.videos[key], second.videos[key])
    low, high = percentile_interval(replicates if videos > 1 else replicates[:0])
    difference = first.value(key) - second.value(key)
    needed, unit = _needed(first.values[key], second.values[key], difference, replicates, videos, numbers)
    return {
        "family": first.families[key],
        "metric": key.metric,
        "scope": key.scope,
        "value": first.value(key),
        "other": second.value(key),
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "p_value": np.maximum(two_sided_p(replicates), min(1.0, 2.0 ** (1 - videos))),  # NaN stays NaN
        "n": videos,
        "needed": needed,
        "needed_unit": unit,
    }


def _needed(
    first: np.ndarray, second: np.ndarray, difference: float, replicates: np.ndarray, videos: int, numbers: int
) -> tuple[float, str]:
    """first, second: (S,) numbers of the runs. numbers: of the family."""
    if len(first) > 1 and len(second) > 1:
        spreads: Sequence[float] = [mean_and_std(runs)[1] for runs in (first, second)]
        return needed_seeds(difference, math.sqrt(sum(spread**2 for spread in spreads) / 2)), "seeds"
    _, error = mean_and_std(replicates[~np.isnan(replicates)] if videos > 1 else [])
    return needed_videos(difference, error, videos, numbers), "videos"
