"""Cues against sums written out, and where there is nothing to compare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import vislab.stitching.cues as cues
from vislab.stitching import ImageMasks, StitchingConfig
from vislab.stitching.clip import Observation
from vislab.stitching.cues import (
    Compared,
    binary_frame_mean_iou,
    box_iou,
    centre_distance,
    matching_cost,
    same_class,
    score_difference,
    soft_volume_iou,
)

MASKS = ImageMasks(lambda logits: logits.clone())


def observation(rng: np.random.Generator, size: tuple[int, int] = (5, 7)) -> Observation:
    logits = torch.from_numpy(rng.normal(0, 2, size).astype(np.float32))
    return Observation(int(rng.integers(2)), float(rng.random()), rng.random(4), logits)


def rows(seed: int, count: int, frames: int, missing: float = 0.0) -> list[list[Observation | None]]:
    rng = np.random.default_rng(seed)
    return [[None if rng.random() < missing else observation(rng) for _ in range(frames)] for _ in range(count)]


def constant(value: float, label: int = 0, score: float = 0.5, box: tuple = (0.5, 0.5, 0.2, 0.2)) -> Observation:
    return Observation(label, score, np.array(box), torch.full((5, 7), value))


@pytest.mark.parametrize(("frames", "missing"), [(1, 0.0), (3, 0.0), (4, 0.4)])
def test_soft_iou_is_that_of_the_volume(frames: int, missing: float) -> None:
    old, new = rows(0, 4, frames, missing), rows(1, 3, frames)
    found = soft_volume_iou(Compared.of(old), Compared.of(new), MASKS)
    for i, j in np.ndindex(4, 3):
        shared = union = 0.0
        for a, b in zip(old[i], new[j], strict=True):
            p = np.zeros((5, 7)) if a is None else 1 / (1 + np.exp(-a.mask_logits.double().numpy()))
            assert b is not None
            q = 1 / (1 + np.exp(-b.mask_logits.double().numpy()))
            shared += (p * q).sum()
            union += (p + q - p * q).sum()
        assert found[i, j] == pytest.approx(shared / union, rel=1e-5)


def test_binary_iou_is_the_mean_over_frames_and_0_where_both_are_empty() -> None:
    threshold = 0.7
    old, new = rows(2, 3, 3), rows(3, 2, 3)
    old[0][1], new[1][1] = constant(-5.0), constant(-5.0)
    found = binary_frame_mean_iou(Compared.of(old), Compared.of(new), replace(MASKS, threshold=threshold))
    for i, j in np.ndindex(3, 2):
        ious = []
        for a, b in zip(old[i], new[j], strict=True):
            assert a is not None and b is not None
            p, q = (cell.mask_logits.sigmoid().numpy() > threshold for cell in (a, b))
            ious.append((p & q).sum() / max((p | q).sum(), 1))
        assert found[i, j] == pytest.approx(np.mean(ious), abs=1e-6)


def test_masks_are_compared_at_image_size() -> None:
    """Not at the mask stride: upsampling comes before the sigmoid and the product."""

    def twice(logits: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(logits[None], scale_factor=2, mode="bilinear", align_corners=False)[0]

    old, new = rows(4, 2, 2), rows(5, 2, 2)
    large = [
        [[replace(cell, mask_logits=twice(cell.mask_logits[None])[0]) for cell in row] for row in r] for r in (old, new)
    ]
    expected = soft_volume_iou(Compared.of(large[0]), Compared.of(large[1]), MASKS)
    found = soft_volume_iou(Compared.of(old), Compared.of(new), ImageMasks(twice))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.abs(found - soft_volume_iou(Compared.of(old), Compared.of(new), MASKS)).max() > 1e-3


def test_many_tracks_are_upsampled_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Compared.of(rows(6, 9, 2, 0.2)), Compared.of(rows(7, 3, 2))
    most = []

    def watched(logits: Tensor) -> Tensor:
        most.append(len(logits))
        return logits.clone()

    whole = soft_volume_iou(old, new, MASKS)
    monkeypatch.setattr(cues, "MASKS_AT_ONCE", 2)
    np.testing.assert_allclose(soft_volume_iou(old, new, ImageMasks(watched)), whole, rtol=1e-5)
    assert max(most) == 3  # the detections of the clip


def test_masks_that_are_shared_are_upsampled_once() -> None:
    mask = torch.randn(5, 7)
    row = [[Observation(label, 0.5, np.zeros(4), mask)] for label in range(4)]
    counted = []

    def watched(logits: Tensor) -> Tensor:
        counted.append(len(logits))
        return logits.clone()

    iou = soft_volume_iou(Compared.of(row), Compared.of(row), ImageMasks(watched))
    assert counted == [1, 1] and np.ptp(iou) == 0


def test_class_and_score_are_means_over_the_frames() -> None:
    old = [[constant(0, 1, 0.9), constant(0, 2, 0.7), None]]
    new = [[constant(0, 1, 0.5), constant(0, 1, 0.6), constant(0, 1, 0.3)]]
    assert same_class(Compared.of(old), Compared.of(new))[0, 0] == pytest.approx(1 / 3)
    assert score_difference(Compared.of(old), Compared.of(new))[0, 0] == pytest.approx((0.4 + 0.1 + 0.3) / 3)


def test_centre_distance_is_relative_to_width_and_height() -> None:
    old = [[constant(0, box=(0.1, 0.2, 1, 1)), constant(0, box=(0.5, 0.5, 1, 1))], [None, None]]
    new = [[constant(0, box=(0.3, 0.6, 1, 1)), constant(0, box=(np.nan, 0.5, 1, 1))]]
    found = centre_distance(Compared.of(old), Compared.of(new))
    assert found[:, 0].tolist() == pytest.approx([(0.2 + 0.4) / 2, 1.0])


def test_box_iou_of_some_boxes() -> None:
    old = [[constant(0, box=(0.5, 0.5, 0.4, 0.4)), constant(0, box=(0.5, 0.5, 0.4, 0.4))]]
    new = [
        [constant(0, box=(0.7, 0.5, 0.4, 0.4)), constant(0, box=(0.5, 0.5, 0.4, 0.4))],
        [constant(0, box=(0.5, 0.5, 0.0, 0.0)), constant(0, box=(0.5, np.inf, 0.4, 0.4))],
        [constant(0, box=(0.5, 0.5, -0.4, 0.4)), constant(0, box=(2.5, 0.5, 0.4, 0.4))],
    ]
    assert box_iou(Compared.of(old), Compared.of(new))[0].tolist() == pytest.approx([(1 / 3 + 1) / 2, 0, 0])


def test_the_cost_is_the_weighted_sum() -> None:
    old, new = Compared.of(rows(8, 4, 2, 0.2)), Compared.of(rows(9, 5, 2))
    config = StitchingConfig(mask_weight=2.0, class_weight=3.0, score_weight=5.0, centre_weight=7.0, box_weight=11.0)
    expected = (
        -2 * soft_volume_iou(old, new, MASKS) - 3 * same_class(old, new) + 5 * score_difference(old, new)
        + 7 * centre_distance(old, new) - 11 * box_iou(old, new)
    )  # fmt: skip
    np.testing.assert_allclose(matching_cost(old, new, config, MASKS), expected)


def test_a_weight_of_0_asks_for_no_mask() -> None:
    def never(logits: Tensor) -> Tensor:
        raise AssertionError

    old, new = Compared.of(rows(10, 2, 2)), Compared.of(rows(11, 2, 2))
    cost = matching_cost(old, new, StitchingConfig(mask_weight=0.0), ImageMasks(never))
    np.testing.assert_allclose(cost, score_difference(old, new) - same_class(old, new))


@pytest.mark.parametrize("cue", ["soft_volume", "binary_frame_mean"])
def test_the_cost_is_finite_without_any_mask_or_box(cue: str) -> None:
    config = StitchingConfig(mask_cue=cue, centre_weight=1, box_weight=1)  # type: ignore[arg-type]
    empty = replace(constant(-np.inf), box=np.full(4, np.nan))
    cost = matching_cost(Compared.of([[None], [empty]]), Compared.of([[empty]]), config, MASKS)
    assert np.isfinite(cost).all()
    assert cost[1, 0] == pytest.approx(-1.0 + 1.0)  # same category, farthest centre, no overlap
