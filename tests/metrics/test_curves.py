"""Curves whose areas are AP."""

from __future__ import annotations

import numpy as np
import pytest
from random_sets import random_set, to_json
from tracking_sets import detection, labelled, read, strip

from vislab.metrics import match
from vislab.metrics.curves import ap_by_threshold, precision_recall
from vislab.metrics.matches import RECALL_POINTS
from vislab.metrics.statistics import video_draws
from vislab.metrics.video_ap import match_instances


@pytest.mark.parametrize("seed", range(25))
def test_areas_are_ap(seed: int) -> None:
    matches = match(*to_json(random_set(seed)))
    curves, summary = precision_recall(matches), matches.summary()
    assert curves.shape == (10, 101)
    for area, name in ((curves.mean(), "AP"), (curves[0].mean(), "AP50"), (curves[5].mean(), "AP75")):
        np.testing.assert_allclose(area, summary[name], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ap_by_threshold(matches)[0], curves.mean(1), rtol=0, atol=1e-12)


def test_curve_by_hand() -> None:
    """Two objects; right, wrong, right: precision 1 up to a recall of 1/2, then 2/3."""
    masks = [strip(0, 5), strip(8, 13), strip(15, 20)]
    found = [detection(mask, score=score) for mask, score in zip(masks, (0.9, 0.8, 0.7), strict=True)]
    matches = match_instances(*read([labelled(masks[0]), labelled(masks[2])], found))
    np.testing.assert_allclose(precision_recall(matches), np.tile(np.where(RECALL_POINTS <= 0.5, 1, 2 / 3), (10, 1)))


def test_resampled() -> None:
    matches = match(*to_json(random_set(2)))
    draws = video_draws(len(matches.video_ids), 20, seed=0)
    found = ap_by_threshold(matches, draws)
    expected = matches.summaries(draws, ["AP", "AP50", "AP75"])
    np.testing.assert_array_equal(found[:, 0], expected["AP50"])
    np.testing.assert_array_equal(found[:, 5], expected["AP75"])
    np.testing.assert_allclose(found.mean(1), expected["AP"], rtol=0, atol=1e-12)


def test_without_ground_truth() -> None:
    gt, results = to_json(random_set(2))
    matches = match(gt | {"annotations": []}, results)
    assert np.isnan(precision_recall(matches)).all() and np.isnan(ap_by_threshold(matches)).all()
    empty = match({"videos": [], "categories": [], "annotations": []}, [])
    assert precision_recall(empty).shape == (10, 101) and ap_by_threshold(empty).shape == (1, 10)
