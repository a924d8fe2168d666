"""Frame-level and refinement losses against sums over queries, tracklets and frames (RefineVIS Eq. 2 and 5)."""

from __future__ import annotations

import math

import pytest
import torch
from frame_cases import CLASSES, clip_predictions, clip_targets
from loss_cases import noise
from mask_cases import every_pixel, slow_cross_entropy, slow_dice
from torch import Tensor

from vislab.losses.denoising import denoising_tracklets, frame_matches
from vislab.losses.frame_losses import MaskLossConfig, Tracklets, frame_level_losses, frame_targets, refined_losses
from vislab.losses.frame_predictions import gather_tracklets, tracklet_references
from vislab.ops.boxes import box_cxcywh_to_xyxy, generalized_box_iou

PIXELS = MaskLossConfig("pixels")
STRIDE = 4


def slow_focal(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    if target:
        return 0.25 * (1 - p) ** 2 * math.log1p(math.exp(-logit))
    return 0.75 * p**2 * math.log1p(math.exp(logit))


def slow_masks(logits: Tensor, mask: Tensor) -> tuple[float, float]:
    """Mean focal and dice loss of one mask, labels read at the centres of the cells."""
    wanted = mask[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    focal = [slow_focal(a, b) for a, b in zip(logits.flatten().tolist(), wanted.flatten().tolist(), strict=True)]
    return sum(focal) / len(focal), slow_dice(logits, wanted).item()


def test_targets_of_single_frames() -> None:
    targets = clip_targets()
    frames = frame_targets(targets)
    assert len(frames) == 4
    assert torch.equal(frames[1].boxes, targets[0].boxes[:, 1:2]) and frames[1].present.tolist() == [[1], [0], [1]]
    assert torch.equal(frames[2].masks, targets[1].masks[:, :1]) and torch.equal(frames[0].labels, targets[0].labels)


def test_denoising_losses_are_a_sum_over_the_queries() -> None:
    """Positive queries reconstruct their instance, negative ones are background, empty places are nothing."""
    targets = clip_targets()
    output = clip_predictions(targets, denoising=12)
    noised, queries = output.frames.denoising, output.frames.denoising_queries
    assert noised is not None and queries is not None
    truth, rows = frame_targets(targets), [0, 1, 3]
    matches = [frame_matches(queries, row) for row in rows]
    found = frame_level_losses(noised, rows, [truth[row] for row in rows], matches, queries.valid, PIXELS, STRIDE)
    sums, pairs = dict.fromkeys(("class", "box", "giou", "mask", "dice"), 0.0), 0
    for row in rows:
        for query in range(len(queries)):
            if not queries.valid[row, query]:
                continue
            instance, positive = int(queries.instance[query]), bool(queries.positive[query])
            label, wanted = int(truth[row].labels[instance]), truth[row].boxes[instance, 0]
            for k in range(CLASSES):
                sums["class"] += slow_focal(noised.logits[row, query, k].item(), float(positive and k == label))
            if positive:
                pairs += 1
                box = noised.boxes[row, query]
                sums["box"] += (box - wanted).abs().sum().item()
                sums["giou"] += 1 - generalized_box_iou(box_cxcywh_to_xyxy(box), box_cxcywh_to_xyxy(wanted)).item()
                mask = slow_masks(noised.masks(row, torch.tensor([query]))[0], truth[row].masks[instance, 0])
                sums["mask"], sums["dice"] = sums["mask"] + mask[0], sums["dice"] + mask[1]
    for name, total in sums.items():
        assert found[name].item() == pytest.approx(total / pairs, rel=1e-5), name
    (gradient,) = torch.autograd.grad(sum(found.values()), noised.embeddings)
    nobody = ~queries.valid
    assert not gradient[nobody].any() and not gradient[2].any() and gradient[0][queries.valid[0]].any(-1).all()


@pytest.mark.parametrize("positive", [True, False])
def test_refined_losses_are_a_sum_over_tracklets_and_frames(positive: bool) -> None:
    targets = clip_targets()
    output = clip_predictions(targets)
    frames, target, numbers = output.frames, targets[0], output.frame_numbers[0]
    query_index = torch.tensor([[2, 5], [1, -1], [-1, 4]])
    tracklets = Tracklets(query_index, torch.tensor([0, 1, 2]), torch.full((3,), positive))
    assert output.refine is not None
    found = refined_losses(frames, 0, numbers, tracklets, target, output.refine, PIXELS, STRIDE)
    refined = output.refine(gather_tracklets(frames.embeddings[:2], query_index), numbers)
    sums = {"class": 0.0, "mask": 0.0, "dice": 0.0}
    for row in range(3):
        for t in range(2):
            there = positive and bool(target.present[row, t])
            for k in range(CLASSES):
                sums["class"] += slow_focal(refined[row, t, k].item(), float(there and k == int(target.labels[row])))
            logits = frames.heads.masks(t, refined[row, t][None], torch.zeros(1, 2))[0]
            mask = slow_masks(logits, target.masks[row, t] if there else torch.zeros_like(target.masks[row, t]))
            sums["mask"], sums["dice"] = sums["mask"] + mask[0], sums["dice"] + mask[1]
    for name, total in sums.items():
        assert found[name].item() == pytest.approx(total, rel=1e-5), name


def test_temporal_denoising_reads_the_frames_of_its_clip() -> None:
    targets = clip_targets()
    output = clip_predictions(targets, denoising=12)
    noised, queries = output.frames.denoising, output.frames.denoising_queries
    assert noised is not None and queries is not None and output.refine is not None
    tracklets = Tracklets(*denoising_tracklets(queries, 1, 2))
    found = refined_losses(
        noised, 2, output.frame_numbers[1], tracklets, targets[1], output.refine, PIXELS, STRIDE
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(sum(found.values()), noised.embeddings)
    assert not gradient[:2].any() and (gradient[2:].abs().sum(-1) > 0).equal(queries.valid[2:])


def test_mask_losses_at_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vislab.losses.cross_frame.uncertain_points", every_pixel)
    logits, small = noise(3, 4, 6), noise(3, 4, 6, seed=1) > 0
    masks = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    mask, dice = MaskLossConfig("points").terms(logits, masks, STRIDE, 0)
    pairs = list(zip(logits, small, strict=True))
    torch.testing.assert_close(mask, torch.stack([slow_cross_entropy(*pair) for pair in pairs]).sum())
    torch.testing.assert_close(dice, torch.stack([slow_dice(*pair) for pair in pairs]).sum())
    none = MaskLossConfig("points").terms(logits[:0], masks[:0], STRIDE, 0)
    assert [term.item() for term in none] == [0, 0]


def test_gathering_tracklets() -> None:
    values = torch.arange(12.0).view(3, 4, 1)
    query_index = torch.tensor([[0, -1, 3], [-1, 2, -1]])
    assert gather_tracklets(values, query_index)[..., 0].tolist() == [[0, 0, 11], [0, 6, 0]]
    places = tracklet_references(values.expand(3, 4, 2), query_index)
    assert places[..., 0].tolist() == [[0, 0, 11], [6, 6, 6]], "the nearest frame, the earlier of two"
