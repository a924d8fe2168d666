"""The criterion: names, weights, auxiliary layers, clips without instances."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from loss_cases import random_output, random_targets

from vislab.losses.boxes import box_losses
from vislab.losses.classification import classification_loss
from vislab.losses.contrastive import ContrastiveConfig
from vislab.losses.criterion import CriterionConfig
from vislab.losses.masks import mask_losses
from vislab.losses.matching import MatcherConfig, match_sequences

NAMES = ["class", "box", "giou", "dice", "focal"]
CONTRASTIVE = ContrastiveConfig(channels=8)
TARGETS = [random_targets(2, 3, 5, 1, [[1, 0, 1], [1, 1, 1]]), random_targets(1, 3, 5, 2)]
NOTHING = [random_targets(0, 3, 5, 1), random_targets(0, 3, 5, 2)]


def run(config: CriterionConfig, output=None, targets=TARGETS) -> dict[str, torch.Tensor]:
    output = output if output is not None else random_output(2, 6, 3, 5, layers=3)
    return config.build().double()(output, targets, mask_stride=4)


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("contrastive", [None, CONTRASTIVE, replace(CONTRASTIVE, auxiliary=False)])
def test_names(auxiliary: bool, contrastive: ContrastiveConfig | None) -> None:
    losses = run(CriterionConfig(auxiliary=auxiliary, contrastive=contrastive))
    expected = set(NAMES) | ({"contrastive"} if contrastive else set())
    if auxiliary:
        early = NAMES + (["contrastive"] if contrastive and contrastive.auxiliary else [])
        expected |= {f"{name}/aux{layer}" for name in early for layer in (0, 1)}
    assert set(losses) == expected
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())


def test_every_layer_is_matched_and_weighted_by_itself() -> None:
    output = random_output(2, 6, 3, 5, layers=3)
    losses = run(CriterionConfig(), output)
    for suffix, layer in zip(("/aux0", "/aux1", ""), (*output.aux_outputs, output), strict=True):
        matches = match_sequences(layer, TARGETS, MatcherConfig())
        l1, giou = box_losses(layer.pred_boxes, TARGETS, matches, 3.0)
        dice, focal = mask_losses(layer, TARGETS, matches, 4, 3.0)
        classes = classification_loss(layer.pred_logits, TARGETS, matches, 3.0)
        expected = {"class": 2 * classes, "box": 5 * l1, "giou": 2 * giou, "dice": 5 * dice, "focal": 2 * focal}
        for name, value in expected.items():
            torch.testing.assert_close(losses[name + suffix], value)


def test_weights_are_the_papers() -> None:
    """TAFormer section 4.1: cls 2, L1 5, GIoU 2, dice 5, focal 2; the contrastive term has no factor."""
    config = CriterionConfig()
    weights = (config.class_weight, config.box_weight, config.giou_weight, config.dice_weight, config.focal_weight)
    assert weights == (2, 5, 2, 5, 2) and ContrastiveConfig().weight == 1 and config.contrastive is None


@pytest.mark.parametrize("name", NAMES)
def test_each_weight_scales_its_loss(name: str) -> None:
    losses = run(CriterionConfig())
    doubled = run(replace(CriterionConfig(), **{f"{name}_weight": 2 * getattr(CriterionConfig(), f"{name}_weight")}))
    for key, loss in losses.items():
        factor = 2 if key.partition("/")[0] == name else 1
        torch.testing.assert_close(doubled[key], factor * loss)
    assert f"{name}_weight" in {field.name for field in fields(CriterionConfig)}


def test_the_contrastive_weight() -> None:
    torch.manual_seed(0)
    single = run(CriterionConfig(contrastive=CONTRASTIVE))["contrastive"]
    torch.manual_seed(0)
    tripled = run(CriterionConfig(contrastive=replace(CONTRASTIVE, weight=3.0)))["contrastive"]
    torch.testing.assert_close(tripled, 3 * single)


@pytest.mark.parametrize("targets", [TARGETS, NOTHING, [TARGETS[0], NOTHING[1]]])
def test_gradients_are_finite(targets: list) -> None:
    output = random_output(2, 6, 3, 5, layers=3)
    sum(run(CriterionConfig(contrastive=CONTRASTIVE), output, targets).values()).backward()
    for layer in (*output.aux_outputs, output):
        leaves = (layer.pred_logits, layer.pred_boxes, layer.pred_masks.logits, layer.frame_queries)
        assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)
        assert layer.pred_logits.grad.any()


def test_without_instances_only_the_class_loss_remains() -> None:
    losses = run(CriterionConfig(), targets=NOTHING)
    assert losses["class"] > 0
    assert [losses[name].item() for name in NAMES[1:]] == [0, 0, 0, 0]


def test_more_instances_than_queries() -> None:
    losses = run(CriterionConfig(), random_output(1, 2, 3, 5), [random_targets(4, 3, 5, 1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_one_frame_has_no_contrastive_loss() -> None:
    targets = [random_targets(2, 1, 5, 1), random_targets(1, 1, 5, 2)]
    losses = run(CriterionConfig(contrastive=CONTRASTIVE), random_output(2, 6, 1, 5), targets)
    assert losses["contrastive"].item() == 0


def test_criterion_without_contrastive_loss_has_no_parameters() -> None:
    assert list(CriterionConfig().build().parameters()) == []
