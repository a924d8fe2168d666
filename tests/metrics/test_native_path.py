"""Evaluation with and without the native pass over run-length codes: every number the same, to the last bit."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from random_sets import random_set, to_json

from vislab import native_rle
from vislab.metrics import evaluate, match
from vislab.metrics.frame_overlap import tight_boxes
from vislab.metrics.inputs import read_ground_truth, read_results
from vislab.metrics.video_iou import frame_intersections, video_iou, video_ious


@pytest.fixture(autouse=True)
def needs_the_kernel() -> None:
    if native_rle.native_kernel().library is None:
        pytest.skip(native_rle.native_kernel().reason)


def on_both_paths(compute, monkeypatch: pytest.MonkeyPatch) -> tuple:
    found = []
    for limit in (math.inf, 0):
        monkeypatch.setattr(native_rle, "WORTHWHILE", limit)
        found.append(compute())
    return tuple(found)


def test_matches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(40):
        data = to_json(random_set(seed))
        plain, native = on_both_paths(lambda data=data: match(*data), monkeypatch)
        for field in fields(plain):
            assert np.array_equal(getattr(plain, field.name), getattr(native, field.name)), (seed, field.name)


def test_overlaps_and_boxes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(25):
        gt, results = to_json(random_set(seed))
        truth = read_ground_truth(gt, any_length=True)
        found = read_results(results, truth, any_length=True)
        groups = [
            ([d for d in found if d.video_id == video], [i for i in truth.instances if i.video_id == video])
            for video in truth.videos
        ]
        for compute in (
            lambda groups=groups: [video_iou(*group) for group in groups],
            lambda groups=groups: video_ious(groups),
            lambda groups=groups: [frame_intersections(*group) for group in groups],
            lambda groups=groups: [tight_boxes(side, 6) for group in groups for side in group],
        ):
            plain, native = on_both_paths(compute, monkeypatch)
            assert len(plain) == len(native)
            for a, b in zip(plain, native, strict=True):
                assert a.dtype == b.dtype and np.array_equal(a, b), seed


def test_every_number_of_an_evaluation_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (3, 4):
        data = to_json(random_set(seed, one_frame=True))
        plain, native = on_both_paths(
            lambda data=data: evaluate(*data, ("ap", "mot", "hota", "errors"), replicates=20), monkeypatch
        )
        pd.testing.assert_frame_equal(plain, native, check_exact=True)
