"""Resampled statistics against evaluation of the resampled data set."""

from __future__ import annotations

import io
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from random_sets import random_set, to_json, with_copies

from vislab.metrics import STATISTICS, Matches, match


def assert_equal(found: dict[str, float], expected: dict[str, float], rounding: float = 0) -> None:
    for name in STATISTICS:
        both_undefined = math.isnan(found[name]) and math.isnan(expected[name])
        assert both_undefined or abs(found[name] - expected[name]) <= rounding, name


def test_weights_of_one_change_nothing() -> None:
    for seed in range(10):
        matches = match(*to_json(random_set(seed)))
        ones = np.ones(len(matches.video_ids), np.int64)
        assert_equal(matches.summary(ones), matches.summary())


def test_resample_equals_evaluation_of_copies() -> None:
    """Up to the order of a sum; also for equal scores, within a video and between videos."""
    rng = np.random.default_rng(0)
    for seed in range(30):
        data = random_set(seed)
        if seed % 2:  # ties everywhere
            for track in data.detections:
                track.score = float(rng.choice([0.3, 0.6]))
        matches = match(*to_json(data))
        weights = rng.integers(0, 4, len(matches.video_ids))
        weights[0] += not weights.any()
        copies = with_copies(data, dict(zip(matches.video_ids.tolist(), weights.tolist(), strict=True)))
        assert_equal(matches.summary(weights), match(*to_json(copies)).summary(), rounding=1e-14)


def test_replicates_equal_single_summaries() -> None:
    rng = np.random.default_rng(1)
    for seed in (0, 3, 8, 9):
        matches = match(*to_json(random_set(seed)))
        weights = rng.integers(0, 3, (7, len(matches.video_ids)))
        together = matches.summaries(weights)
        for row, single in enumerate(weights):
            assert_equal({name: values[row] for name, values in together.items()}, matches.summary(single))


def test_only_the_named_statistics() -> None:
    matches = match(*to_json(random_set(0)))
    assert list(matches.summaries(names=["AP75", "AR1"])) == ["AP75", "AR1"]
    assert matches.summaries(names=["AP75"])["AP75"][0] == matches.summary()["AP75"]


def test_one_range_or_one_threshold_has_fewer_statistics() -> None:
    matches = match(*to_json(random_set(0)))
    assert matches.statistics == STATISTICS
    whole = matches.summary()
    part = replace(
        matches, matched=matches.matched[:1], ignored=matches.ignored[:1], truth_ignored=matches.truth_ignored[:1]
    )
    assert part.summary() == {name: whole[name] for name in ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")}
    single = replace(part, matched=part.matched[:, 5:6], ignored=part.ignored[:, 5:6])
    assert single.statistics == ("AP", "AR1", "AR10", "AR100")
    assert single.summary()["AP"] == whole["AP75"]


def test_stored_columns() -> None:
    """Files of earlier runs have these."""
    names = "video_ids category_ids category_names detection_video detection_category detection_score detection_area "
    names += "detection_rank matched ignored truth_video truth_category truth_ignored"
    assert [field.name for field in fields(Matches)] == names.split()


def test_no_video_drawn_is_undefined() -> None:
    matches = match(*to_json(random_set(0)))
    assert all(math.isnan(value) for value in matches.summary(np.zeros(len(matches.video_ids), np.int64)).values())


@pytest.mark.parametrize("weights", [np.ones((1, 1000), np.int64), -np.ones((1, 2), np.int64), np.ones((1, 2))])
def test_wrong_weights_are_refused(weights: np.ndarray) -> None:
    matches = match(*to_json(random_set(0)))
    with pytest.raises(AssertionError):
        matches.summaries(weights[:, : len(matches.video_ids)] if weights.shape[1] < 1000 else weights)


def test_many_replicates_are_cut_into_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = match(*to_json(random_set(0)))
    weights = np.random.default_rng(0).integers(0, 3, (50, len(matches.video_ids)))
    whole = matches.summaries(weights)
    monkeypatch.setattr("vislab.metrics.matches._MAX_ENTRIES", 30)
    for name, values in matches.summaries(weights).items():
        np.testing.assert_array_equal(values, whole[name])


@pytest.mark.parametrize("to_file", [True, False])
def test_save_and_load(tmp_path: Path, to_file: bool) -> None:
    matches = match(*to_json(random_set(0)))
    target: Path | io.BytesIO = tmp_path / "matches.npz.part" if to_file else io.BytesIO()
    matches.save(target)
    if isinstance(target, io.BytesIO):
        target.seek(0)
    loaded = Matches.load(target)
    for field in fields(Matches):
        before, after = getattr(matches, field.name), getattr(loaded, field.name)
        assert before.dtype == after.dtype and np.array_equal(before, after), field.name
    assert_equal(loaded.summary(), matches.summary())
