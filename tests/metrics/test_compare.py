"""Two models on the same videos."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from random_sets import random_set, to_json, with_copies
from scipy import stats

from vislab.metrics import holm, match, paired_difference
from vislab.metrics.compare import COLUMNS, compare, needed_seeds, needed_videos
from vislab.metrics.errors import error_breakdown
from vislab.metrics.evaluation import Plan, evaluations
from vislab.metrics.hota import hota_instances
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.measure import Settings
from vislab.metrics.mot import mot_instances
from vislab.metrics.statistics import Resampled

PLAN = Plan(Settings(("ap", "mot", "hota", "errors")), replicates=100)
DRAWN = 80 * 18  # what Holm's correction needs


@pytest.fixture(scope="module")
def data() -> tuple[dict, list[dict], list[dict]]:
    """Twelve videos; the second model has the first one's masks, with other scores and some missing."""
    random = random_set(9)
    gt, results = to_json(with_copies(random, dict.fromkeys(random.videos, 4)))
    rng = np.random.default_rng(0)
    other = [record | {"score": float(rng.random())} for record in results if rng.random() < 0.8]
    return gt, results, other


def sources(gt: dict, results: list[dict]) -> dict[str, tuple[Resampled, str]]:
    truth = read_ground_truth(gt)
    detections = read_results(results, truth)
    boxes = mot_instances(truth, detections)
    return {
        "AP": (match(gt, results), "AP"),
        "AR10": (match(gt, results), "AR10"),
        "MOTA": (boxes, "MOTA"),
        "IDs": (boxes, "IDs"),
        "HOTA": (hota_instances(truth, detections), "HOTA"),
        "dAP50 spatial": (error_breakdown(truth, detections), "spatial"),
    }


def test_differences_are_paired_differences(data: tuple[dict, list[dict], list[dict]]) -> None:
    gt, results, other = data
    frame = compare(gt, results, other, PLAN)
    assert list(frame.columns) == list(COLUMNS)
    records = {record["metric"]: record for record in frame[frame["scope"] == "all"].to_dict("records")}
    first, second = sources(gt, results), sources(gt, other)
    for metric, (source, name) in first.items():
        expected = paired_difference([source], [second[metric][0]], name, replicates=DRAWN)
        found = records[metric]
        assert found["difference"] == found["value"] - found["other"] == expected.difference
        ends = found["ci_low"], found["ci_high"]  # sums of other blocks of replicates may differ in the last bit
        assert ends == pytest.approx((expected.ci_low, expected.ci_high), abs=1e-14)
        assert found["p_value"] == max(expected.p_value, 2 / 2 ** found["n"])


def test_few_videos_support_nothing() -> None:
    """Whatever the difference is: all resamples of a single video are alike, and of five nearly so."""
    for videos, least in ((1, 1.0), (2, 0.5), (5, 0.0625), (9, 1 / 256)):
        random = random_set(5)
        gt, results = to_json(with_copies(random, {9: 0, 11: videos}))
        record = compare(gt, results, [], Plan(Settings(("hota",)), replicates=10)).iloc[0]
        assert record["difference"] > 0 and record["n"] == videos
        assert record["p_value"] == pytest.approx(max(least, 2 / 1441)) and record["supported"] == (videos == 9)
        assert math.isnan(record["ci_low"]) == (videos == 1)
        assert math.isnan(record["needed"]) == (videos in (1, 9))


def test_runs_are_paired_if_there_are_equally_many(data: tuple[dict, list[dict], list[dict]]) -> None:
    gt, results, other = data
    third = [record | {"score": 1 - record["score"]} for record in results]
    plan = Plan(Settings(("ap",)), replicates=DRAWN)
    for ours, theirs in (([results, third], [other, results]), ([results, third, other], [other, results])):
        found = compare(gt, ours, theirs, plan).iloc[0]
        runs = [[match(gt, run) for run in model] for model in (ours, theirs)]
        expected = paired_difference(*runs, replicates=DRAWN)
        assert found[["difference", "ci_low", "ci_high", "p_value"]].tolist() == pytest.approx(
            [expected.difference, expected.ci_low, expected.ci_high, expected.p_value], abs=1e-14
        )
        spreads = [np.std([run.summary()["AP"] for run in model], ddof=1) for model in runs]
        seeds = needed_seeds(expected.difference, math.sqrt((spreads[0] ** 2 + spreads[1] ** 2) / 2))
        assert found["needed_unit"] == "seeds" and (found["supported"] or found["needed"] == seeds)


def test_correction_is_by_family(data: tuple[dict, list[dict], list[dict]]) -> None:
    frame = compare(*data, PLAN)
    assert frame["family"].nunique() == 5
    for _, part in frame.groupby("family"):
        np.testing.assert_array_equal(part["p_holm"], holm(part["p_value"].tolist()))
    np.testing.assert_array_equal(frame["supported"], frame["p_holm"] < 0.05)
    assert frame.loc[frame["supported"], "needed"].isna().all()
    assert frame.groupby("family").size().max() <= 18, "more need more replicates"


def test_what_is_certain_survives_the_correction(data: tuple[dict, list[dict], list[dict]]) -> None:
    gt, results, _ = data
    frame = compare(gt, results, [], Plan(Settings(("ap", "hota")), replicates=10))
    supported = frame.set_index(["metric", "scope"])["supported"]
    assert supported["AP50", "all"] and supported["DetRe", "all"]
    alike = compare(gt, results, results, PLAN)
    assert not alike["supported"].any() and set(alike["difference"].dropna()) == {0.0}
    assert np.isinf(alike["needed"].dropna()).all()


def test_comparison_leaves_the_intervals_as_they_are(data: tuple[dict, list[dict], list[dict]]) -> None:
    gt, results, other = data
    several = [results, other]
    alone = evaluations(gt, [several], Plan(replicates=50))[0]
    compared = evaluations(gt, [several, several], Plan(replicates=50, compared=True))[0]
    pd.testing.assert_frame_equal(compared.frame(), alone.frame(), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("effect", "runs"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17), (1.5, 9), (2.0, 6)])
def test_needed_seeds_are_those_of_the_tables(effect: float, runs: int) -> None:
    """Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, table 2.4.1 (two-sided, 0.05, power 0.8);
    statsmodels' TTestIndPower.solve_power gives 393.41, 63.77, 25.52, 16.71, 8.06 and 5.09."""
    assert needed_seeds(effect, 1.0) == runs
    assert needed_seeds(-3 * effect, 3.0) == runs


def test_needed_seeds_by_simulation() -> None:
    rng = np.random.default_rng(0)
    runs = int(needed_seeds(0.012, 0.008))
    for number, enough in ((runs, True), (runs - 2, False)):
        ours, theirs = rng.normal(0.012, 0.008, (number, 40_000)), rng.normal(0, 0.008, (number, 40_000))
        power = (stats.ttest_ind(ours, theirs).pvalue < 0.05).mean()
        assert (power > 0.79) == enough, (number, power)


def test_needed_seeds_at_the_ends() -> None:
    assert needed_seeds(0.1, 0.0) == 2 and needed_seeds(1e9, 1.0) == 2
    assert needed_seeds(0.0, 0.1) == math.inf and math.isnan(needed_seeds(0.1, math.nan))
    normal = 2 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2
    assert needed_seeds(1e-3, 1.0) == pytest.approx(normal * 1e6, rel=1e-4)


def test_needed_videos() -> None:
    assert needed_videos(0.02, 0.02, 100) == math.ceil(100 * (1.959964 + 0.841621) ** 2) == 785
    assert needed_videos(-0.04, 0.02, 100) == 197 and needed_videos(0.0, 0.02, 100) == math.inf
    assert math.isnan(needed_videos(math.nan, 0.02, 100)) and math.isnan(needed_videos(0.02, math.nan, 100))
