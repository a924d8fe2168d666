"""Statistics against closed forms, scipy, and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
from random_sets import random_set, to_json

from vislab.errors import UserError
from vislab.metrics import Matches, bootstrap, holm, match, paired_difference
from vislab.metrics.matches import IOU_THRESHOLDS
from vislab.metrics.statistics import basic_interval, mean_and_std, percentile_interval, two_sided_p, video_draws


@dataclass
class MeanOfVideos:
    """A statistic that is a plain mean, so that theory knows its interval."""

    values: np.ndarray
    video_ids: np.ndarray

    def summaries(self, video_weights: np.ndarray | None, names: Sequence[str]) -> dict[str, np.ndarray]:
        weights = np.ones((1, len(self.values))) if video_weights is None else video_weights
        counts = weights.sum(1)
        means = np.divide(weights @ self.values, counts, out=np.full(len(weights), np.nan), where=counts > 0)
        return dict.fromkeys(names, means)


def mean_of(values: np.ndarray) -> MeanOfVideos:
    return MeanOfVideos(values, np.arange(len(values)))


def test_draws() -> None:
    draws = video_draws(50, 2000, seed=3)
    assert draws.shape == (2000, 50) and (draws.sum(1) == 50).all()
    np.testing.assert_array_equal(draws, video_draws(50, 2000, seed=3))
    assert (draws != video_draws(50, 2000, seed=4)).any()
    assert draws.mean(0) == pytest.approx(1, abs=0.1) and draws.var() == pytest.approx(1 - 1 / 50, abs=0.02)
    assert video_draws(0, 5, seed=0).shape == (5, 0) and video_draws(5, 0, seed=0).shape == (0, 5)


def test_mean_and_std() -> None:
    assert mean_and_std([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    mean, std = mean_and_std([0.5])
    assert mean == 0.5 and np.isnan(std)
    assert np.isnan(mean_and_std([])).all()


def test_interval_of_one_run_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).beta(2, 3, 120)
    found = bootstrap([mean_of(values)], replicates=4000)
    for method in ("basic", "percentile"):  # the same for a symmetric distribution
        theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method=method, rng=1).confidence_interval
        assert (found.ci_low, found.ci_high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert found.value == pytest.approx(values.mean()) and np.isnan(found.std)
    assert (found.n_seeds, found.n_videos) == (1, 120)


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for repetition in range(400):
        found = bootstrap([mean_of(rng.normal(0.5, 0.1, 80))], replicates=300, seed=repetition)
        covered += found.ci_low <= 0.5 <= found.ci_high
    assert 0.92 <= covered / 400 <= 0.98


def test_basic_interval_is_reflected_and_cut() -> None:
    replicates = np.linspace(0.6, 0.9, 1001)
    low, high = percentile_interval(replicates)
    assert (low, high) == pytest.approx((0.6075, 0.8925))
    assert basic_interval(0.7, replicates) == pytest.approx((1.4 - high, 1.4 - low))
    assert basic_interval(0.95, replicates)[1] == 1
    assert np.isnan(basic_interval(0.5, np.full(10, np.nan))).all()
    assert basic_interval(-2.0, np.linspace(-3, -1, 1001), (-np.inf, 1)) == pytest.approx((-2.95, -1.05))
    assert basic_interval(3.0, np.linspace(0, 6, 1001), (0, np.inf)) == pytest.approx((0.15, 5.85))


def test_bounds_are_those_of_the_statistic() -> None:
    values = 40 * np.random.default_rng(9).random(30)
    found = bootstrap([mean_of(values)], bounds=(0, np.inf))
    assert 10 < found.ci_low < values.mean() < found.ci_high < 30
    cut = bootstrap([mean_of(values)])
    assert (cut.ci_low, cut.ci_high) == (1, 1)


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    values = rng.random(60)
    runs = [mean_of(values + shift) for shift in (-0.1, 0, 0.1)]
    one, three = bootstrap(runs[1:2]), bootstrap(runs)
    assert three.value == pytest.approx(one.value) and three.std == pytest.approx(0.1) and three.n_seeds == 3
    assert three.ci_high - three.ci_low > 1.2 * (one.ci_high - one.ci_low)
    video_only = bootstrap([mean_of(values)] * 3)
    assert video_only.ci_high - video_only.ci_low == pytest.approx(one.ci_high - one.ci_low)


def test_paired_difference_sees_what_videos_share() -> None:
    rng = np.random.default_rng(3)
    difficulty = rng.random(100)
    a, b = difficulty + 0.02 + rng.normal(0, 0.03, 100), difficulty + rng.normal(0, 0.03, 100)
    found = paired_difference([mean_of(a)], [mean_of(b)], replicates=4000)
    assert found.difference == pytest.approx((a - b).mean())
    theirs = scipy.stats.bootstrap((a - b,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert (found.ci_low, found.ci_high) == pytest.approx((theirs.low, theirs.high), abs=0.001)
    assert found.p_value < 0.01 and (found.n_seeds, found.n_videos) == (1, 100)


def test_p_value_agrees_with_t_test() -> None:
    rng = np.random.default_rng(4)
    for shift in (0.0, 0.005, 0.01):
        a, b = rng.random((2, 150)) * 0.1
        a += shift
        found = paired_difference([mean_of(a)], [mean_of(b)], replicates=4000)
        assert found.p_value == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, abs=0.02)
        assert (found.p_value < 0.05) == (found.ci_low > 0 or found.ci_high < 0)


def test_equal_rows_do_not_differ() -> None:
    run = match(*to_json(random_set(0)))
    found = paired_difference([run, run], [run, run], replicates=200)
    assert (found.difference, found.ci_low, found.ci_high, found.p_value) == (0, 0, 0, 1)


def test_swapping_rows_changes_the_sign() -> None:
    rng = np.random.default_rng(5)
    a, b = ([mean_of(rng.random(40)) for _ in range(3)] for _ in range(2))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert back.difference == pytest.approx(-there.difference) and back.p_value == there.p_value
    assert (back.ci_low, back.ci_high) == pytest.approx((-there.ci_high, -there.ci_low))


def test_unequal_numbers_of_seeds() -> None:
    rng = np.random.default_rng(6)
    runs = [mean_of(rng.random(40)) for _ in range(5)]
    assert paired_difference(runs[:2], runs[2:], replicates=50).n_seeds == 2


def test_different_videos_are_refused() -> None:
    with pytest.raises(UserError, match=r"different videos \(3 and 4 of them\)"):
        paired_difference([mean_of(np.ones(3))], [mean_of(np.ones(4))])
    with pytest.raises(UserError, match="different videos"):
        bootstrap([mean_of(np.ones(3)), MeanOfVideos(np.ones(3), np.arange(1, 4))])


def test_p_value_counts() -> None:
    assert two_sided_p(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert two_sided_p(np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert two_sided_p(np.array([1.0, -1.0, np.nan])) == 1
    assert np.isnan(two_sided_p(np.array([np.nan])))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.04, np.nan, 0.01]), [0.04, np.nan, 0.02])
    assert holm([0.6, 0.9]).tolist() == [1, 1] and holm([]).tolist() == []


def test_holm_rejects_what_the_step_down_rule_rejects() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        p_values = rng.random(6) ** 4
        rejected = set()
        for step, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (6 - step):
                break
            rejected.add(int(index))
        assert {int(i) for i in np.flatnonzero(holm(p_values) <= 0.05)} == rejected


def simulated(rng: np.random.Generator, num_videos: int, num_categories: int = 8) -> Matches:
    """1 to 4 objects a video, each found with a random overlap and a noisy score, and twice as many false ones."""
    objects = rng.integers(1, 5, num_videos)
    video = np.repeat(np.arange(num_videos), objects)
    category = rng.integers(num_categories, size=len(video))
    difficulty = np.repeat(rng.normal(0, 0.8, num_videos), objects)
    overlap = scipy.special.expit(rng.normal(0.8, 1, len(video)) + difficulty)
    score = scipy.special.expit(rng.normal(0, 0.8, len(video)) + 4 * (overlap - 0.6))
    mistaken = rng.random(len(video)) < 0.25
    false = np.repeat(video, 2)
    columns = {
        "detection_video": np.append(video, false),
        "detection_category": np.concatenate(
            [
                np.where(mistaken, (category + 1) % num_categories, category),
                rng.integers(num_categories, size=len(false)),
            ]
        ),
        "detection_score": np.append(score, scipy.special.expit(rng.normal(-1.5, 1, len(false)))),
        "detection_area": np.ones(3 * len(video)),
        "detection_rank": np.zeros(3 * len(video), np.int32),
        "matched": np.append(np.where(mistaken, 0, overlap), np.zeros(len(false))) >= IOU_THRESHOLDS[:, None],
    }
    order = np.lexsort((columns["detection_video"], -columns["detection_score"]))
    columns = {name: column[..., order] for name, column in columns.items()}
    columns["matched"] = np.broadcast_to(columns["matched"], (4, *columns["matched"].shape))
    return Matches(
        video_ids=np.arange(num_videos),
        category_ids=np.arange(num_categories),
        category_names=np.arange(num_categories).astype(np.str_),
        ignored=np.zeros_like(columns["matched"]),
        truth_video=video,
        truth_category=category,
        truth_ignored=np.zeros((4, len(video)), bool),
        **columns,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("num_videos", "at_least"), [(60, 0.8), (200, 0.88)])
def test_basic_interval_of_ap_covers_better_than_percentiles(num_videos: int, at_least: float) -> None:
    rng = np.random.default_rng(8)
    true = simulated(rng, 40_000).summaries(names=["AP"])["AP"][0]
    basic = percentile = 0
    for repetition in range(150):
        matches = simulated(rng, num_videos)
        replicates = matches.summaries(video_draws(num_videos, 400, repetition), ["AP"])["AP"]
        low, high = basic_interval(matches.summaries(names=["AP"])["AP"][0], replicates)
        basic += low <= true <= high
        low, high = percentile_interval(replicates)
        percentile += low <= true <= high
    assert basic / 150 >= at_least and basic > percentile
