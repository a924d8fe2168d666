"""The sums of RefineVIS Eq. 1: which parts there are, over which frames, and what they leave out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from frame_cases import clip_predictions, clip_targets
from loss_cases import random_targets
from torch import Tensor

from vislab.losses.association import AssociationLossConfig, ReidAuxConfig, contrastive_terms, reference_pairs
from vislab.losses.denoising import association_denoising
from vislab.losses.frame_losses import MaskLossConfig, frame_level_losses, frame_targets
from vislab.losses.optimal_transport import transport
from vislab.losses.refinevis_criterion import RefineVISCriterionConfig

CONFIG = RefineVISCriterionConfig(masks=MaskLossConfig("pixels"), min_iou=0.0)
STRIDE = 4
FRAME = {"class", "box", "giou", "mask", "dice"}
REFINED = {"refined_class", "refined_mask", "refined_dice"}


def gradients(losses: dict[str, Tensor], names: set[str], leaf: Tensor) -> Tensor:
    total = torch.stack([loss for name, loss in losses.items() if name.split("/")[0] in names]).sum()
    (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if gradient is None else gradient


def test_names() -> None:
    targets = clip_targets()
    output = clip_predictions(targets, denoising=12, layers=2)
    losses = CONFIG.build()(output, targets, STRIDE)
    expected = FRAME | {f"{name}/aux0" for name in FRAME} | {f"denoising_{name}" for name in FRAME} | REFINED
    expected |= {"association", "denoising_association"} | {f"denoising_{name}" for name in REFINED}
    assert set(losses) == expected
    plain = replace(CONFIG, auxiliary=False, association=None, temporal_denoising=False)
    assert set(plain.build()(output, targets, STRIDE)) == FRAME | {f"denoising_{name}" for name in FRAME} | REFINED
    idol = replace(CONFIG, auxiliary=False, association=AssociationLossConfig(reid_aux=ReidAuxConfig()))
    output = clip_predictions(targets)
    output.refine = None
    assert set(idol.build()(output, targets, STRIDE)) == FRAME | {"association", "reid_aux"}


@pytest.mark.parametrize("which", ["first", "all"])
def test_frame_level_losses_of_the_first_frame_or_all(which: str) -> None:
    targets = clip_targets()
    output = clip_predictions(targets)
    losses = replace(CONFIG, frame_losses=which).build()(output, targets, STRIDE)
    seen = gradients(losses, FRAME, output.frames.embeddings).flatten(1).any(1)
    assert seen.tolist() == ([True, False] * 2 if which == "first" else [True] * 4)
    truth, rows = frame_targets(targets), ([0, 2] if which == "first" else [0, 1, 2, 3])
    matches = [CONFIG.build()._assign(output.frames, row, truth[row]).matches for row in rows]
    chosen = [truth[row] for row in rows]
    terms = frame_level_losses(output.frames, rows, chosen, matches, None, CONFIG.masks, STRIDE)
    for name, weight in (("class", 4), ("box", 5), ("giou", 2), ("mask", 5), ("dice", 5)):
        torch.testing.assert_close(losses[name], weight * terms[name])


def test_refinement_learns_from_both_frames() -> None:
    targets = clip_targets()
    output = clip_predictions(targets)
    losses = CONFIG.build()(output, targets, STRIDE)
    assert gradients(losses, REFINED, output.frames.embeddings).flatten(1).any(1).all()
    assert not gradients(losses, REFINED, output.frames.boxes).any()


def test_association_is_the_mean_over_the_objects_of_both_frames() -> None:
    targets = clip_targets()
    output = clip_predictions(targets)
    frames, config = output.frames, AssociationLossConfig()
    assert frames.association is not None
    losses = CONFIG.build()(output, targets, STRIDE)
    total = 0.0
    for clip, both in enumerate(([0], [0])):  # in the first clip only instance 0 is in both frames
        target, key, other = targets[clip], 2 * clip, 2 * clip + 1
        seen, there = (target.present[:, t].nonzero()[:, 0] for t in (0, 1))
        where = frames.logits[key], frames.boxes[key]
        best = transport(*where, target.labels[seen], target.boxes[seen, 0], CONFIG.matching).best
        labels, boxes = target.labels[there], target.boxes[there, 1]
        plus, minus = reference_pairs(frames.logits[other], frames.boxes[other], labels, boxes, config)
        for instance in both:
            row = there.tolist().index(instance)
            v = frames.association[key, best[seen.tolist().index(instance)]]
            pairs = plus[row][None], minus[row][None]
            total = total + contrastive_terms(v[None], frames.association[other], *pairs)[0]
    torch.testing.assert_close(losses["association"], 2.0 * total / 2)


def test_association_of_denoising_queries() -> None:
    targets = clip_targets()
    output = clip_predictions(targets, denoising=12)
    noised, queries = output.frames.denoising, output.frames.denoising_queries
    assert noised is not None and noised.association is not None and queries is not None
    losses = CONFIG.build()(output, targets, STRIDE)
    a = noised.association
    parts = [association_denoising(queries, key, key + 1, a[key], a[key + 1]) for key in (0, 2)]
    expected = 2.0 * sum(part[0] for part in parts) / sum(part[1] for part in parts)
    torch.testing.assert_close(losses["denoising_association"], expected)


def test_a_tracklet_misses_frames_in_which_its_query_is_elsewhere() -> None:
    targets = clip_targets()
    output = clip_predictions(targets)
    truth = frame_targets(targets)
    best = CONFIG.build()._assign(output.frames, 0, truth[0]).best[0]
    with torch.no_grad():
        output.frames.boxes[0, best] = targets[0].boxes[0, 0].to(output.frames.boxes)
    strict = replace(CONFIG, min_iou=0.999).build()
    assigned = [strict._assign(output.frames, row, target) for row, target in enumerate(truth)]
    tracklets = strict._tracklets(output, targets, assigned)
    assert tracklets[0].instance.tolist() == [0] and tracklets[0].query_index[0, 1] == -1
    assert len(tracklets[1].instance) == 0, "an instance that is found nowhere is no tracklet"


def test_without_objects() -> None:
    targets = [random_targets(0, 2, 3, 1), random_targets(0, 2, 3, 2)]
    output = clip_predictions(targets, denoising=12)
    losses = CONFIG.build()(output, targets, STRIDE)
    assert set(losses) == FRAME | REFINED | {"association"}
    assert losses["class"] > 0 and sum(losses.values()) == losses["class"]
    torch.stack(list(losses.values())).sum().backward()


def test_a_single_frame_has_no_association() -> None:
    targets = [random_targets(2, 1, 3, seed) for seed in (1, 2, 3, 4)]
    output = clip_predictions(clip_targets())
    output.num_frames, output.frame_numbers = 1, torch.zeros(4, 1, dtype=torch.int64)
    losses = CONFIG.build()(output, targets, STRIDE)
    assert losses["association"] == 0 and losses["refined_class"] > 0
