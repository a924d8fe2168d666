"""The criterion of trajectories against loops over clips, queries, frames and pixels, under every convention."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from loss_cases import corners, random_output, random_targets, slow_focal, slow_giou
from torch.nn import functional

from vislab.losses.boxes import BoxComparisonConfig
from vislab.losses.trajectory_criterion import TrajectoryCriterionConfig, layer_weights
from vislab.losses.trajectory_matching import TrajectoryMatcherConfig, match_trajectories
from vislab.structures import ModelOutput, Targets

NAMES = ["class", "box", "giou", "dice", "focal"]
DEVIS = TrajectoryCriterionConfig()
TEVIT = TrajectoryCriterionConfig(
    dice_weight=8.0, focal_weight=0.0, layer_weights="equal", normaliser="present_frames", dice="squared",
    boxes=BoxComparisonConfig(l1_format="xyxy", giou_eps=0.0),
    matcher=TrajectoryMatcherConfig(class_cost=2.0, l1_cost="sum", frames="present"),
)  # fmt: skip
RELEASED_DEVIS = replace(DEVIS, invalid_frames="regress", mask_resolution="input")
COCO = TrajectoryCriterionConfig(
    dice_weight=8.0, focal_weight=8.0, layer_weights="equal",
    matcher=TrajectoryMatcherConfig(class_cost=2.0, l1_cost="sum"),
)  # fmt: skip
TARGETS = [random_targets(2, 3, 5, 1, [[1, 0, 1], [1, 1, 1]]), random_targets(1, 3, 5, 2)]
NOTHING = [random_targets(0, 3, 5, 1), random_targets(0, 3, 5, 2)]


def random_layers(layers: int = 1, frames: int = 3, queries: int = 4) -> ModelOutput:
    return random_output(2, queries, frames, 5, layers=layers, frame_logits=True)


def run(config: TrajectoryCriterionConfig, output: ModelOutput, targets: list[Targets] = TARGETS) -> dict[str, Any]:
    return config.build()(output, targets, mask_stride=4)


def matched_frames(
    config: TrajectoryCriterionConfig, output: ModelOutput, targets: list[Targets]
) -> Iterator[tuple[int, int, int, int, bool]]:
    """(clip, query, instance, frame, present) of every matched pair and frame."""
    matches = match_trajectories(output, targets, config.matcher, config.boxes)
    for clip, (target, match) in enumerate(zip(targets, matches, strict=True)):
        for q, n in zip(*(index.tolist() for index in match), strict=True):
            for t in range(target.present.shape[1]):
                yield clip, q, n, t, bool(target.present[n, t])


def slow_masks(config: TrajectoryCriterionConfig, logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Dice and focal loss of one mask, (h, w), and one label, (H, W)."""
    if config.mask_resolution == "input":
        logits = functional.interpolate(logits[None, None].float(), scale_factor=4, mode="bilinear")[0, 0]
    else:
        labels = labels[2::4, 2::4]
    pairs = [(x, float(y)) for x, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True)]
    probabilities = [1 / (1 + math.exp(-x)) for x, _ in pairs]
    overlap = 2 * sum(p * y for p, (_, y) in zip(probabilities, pairs, strict=True))
    if config.dice == "smooth":
        dice = 1 - (overlap + 1) / (sum(probabilities) + sum(y for _, y in pairs) + 1)
    else:
        dice = 1 - overlap / (sum(p * p for p in probabilities) + 1e-5 + sum(y * y for _, y in pairs) + 1e-5)
    return dice, sum(slow_focal(x, y) for x, y in pairs) / len(pairs)


def slow_losses(config: TrajectoryCriterionConfig, output: ModelOutput, targets: list[Targets]) -> dict[str, float]:
    """Of one layer, with layer weight 1."""
    losses, positives = dict.fromkeys(NAMES, 0.0), set()
    for clip, q, n, t, present in matched_frames(config, output, targets):
        if present:
            positives.add((clip, q, t, int(targets[clip].labels[n])))
        elif config.invalid_frames == "ignore":
            continue
        box, wanted = output.pred_boxes[clip, q, t].tolist(), targets[clip].boxes[n, t].tolist()
        losses["giou"] += 1 - slow_giou(box, wanted, config.boxes.giou_eps)
        if config.boxes.l1_format == "xyxy":
            box, wanted = corners(box), corners(wanted)
        losses["box"] += sum(abs(x - y) for x, y in zip(box, wanted, strict=True))
        assert output.pred_masks is not None
        logits = output.pred_masks(clip, torch.tensor([q]))[0, t].detach()
        for name, loss in zip(("dice", "focal"), slow_masks(config, logits, targets[clip].masks[n, t]), strict=True):
            losses[name] += loss
    for index in torch.cartesian_prod(*(torch.arange(size) for size in output.pred_logits.shape)).tolist():
        losses["class"] += slow_focal(output.pred_logits[tuple(index)].item(), float(tuple(index) in positives))
    if config.normaliser == "instance_frames":
        count = sum(len(target.labels) * target.present.shape[1] for target in targets)
    else:
        count = sum(int(target.present.sum()) for target in targets)
    return {name: getattr(config, f"{name}_weight") * loss / max(1, count) for name, loss in losses.items()}


@pytest.mark.parametrize("config", [DEVIS, RELEASED_DEVIS, TEVIT, COCO, replace(COCO, invalid_frames="regress")])
@pytest.mark.parametrize("targets", [TARGETS, [TARGETS[0], NOTHING[1]], NOTHING])
def test_every_loss_equals_loops(config: TrajectoryCriterionConfig, targets: list[Targets]) -> None:
    output = random_layers()
    losses, expected = run(config, output, targets), slow_losses(config, output, targets)
    assert list(losses) == NAMES
    for name, loss in losses.items():
        assert loss.shape == () and loss.item() == pytest.approx(expected[name], abs=2e-5), name


def test_one_frame_and_instances_that_are_never_seen() -> None:
    targets = [random_targets(2, 1, 5, 1), random_targets(2, 1, 5, 2, [[1], [0]])]
    for config in (DEVIS, TEVIT, COCO):
        output = random_layers(frames=1)
        losses, expected = run(config, output, targets), slow_losses(config, output, targets)
        assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, abs=2e-5)


def test_more_instances_than_queries() -> None:
    losses = run(DEVIS, random_layers(queries=2), [random_targets(4, 3, 5, 1), random_targets(3, 3, 5, 2)])
    assert all(loss.isfinite() for loss in losses.values())


def test_layer_weights_of_six_layers_are_the_papers() -> None:
    """DeVIS src/models/criterion.py:14-21; appendix A prints the other order."""
    rising = layer_weights("rising", 6)
    assert rising == [1 / 30, 2 / 30, 3 / 30, 4 / 30, 5 / 30, 15 / 30]
    assert layer_weights("falling", 6) == [1 / 2, 5 / 30, 4 / 30, 3 / 30, 2 / 30, 1 / 30]
    assert layer_weights("equal", 6) == [1.0] * 6


@pytest.mark.parametrize("num_layers", range(1, 9))
def test_layer_weights_of_any_number_of_layers(num_layers: int) -> None:
    rising = layer_weights("rising", num_layers)
    assert len(rising) == num_layers and math.isclose(sum(rising), 1) and rising == sorted(rising)
    assert rising[-1] == (0.5 if num_layers > 1 else 1)
    steps = [later - earlier for earlier, later in zip(rising[:-1], rising[1:-1], strict=False)]
    assert all(math.isclose(step, rising[0]) for step in steps)
    assert layer_weights("falling", num_layers) == rising[::-1]


@pytest.mark.parametrize("mode", ["rising", "falling", "equal"])
def test_layers_are_matched_by_themselves_and_weighted_except_for_their_masks(mode) -> None:
    output = random_layers(layers=6)
    losses = run(replace(DEVIS, layer_weights=mode), output)
    for index, (layer, weight) in enumerate(zip((*output.aux_outputs, output), layer_weights(mode, 6), strict=True)):
        alone = run(DEVIS, replace(layer, aux_outputs=[]))  # a single layer has weight 1
        suffix = f"/aux{index}" if index < 5 else ""
        for name, loss in alone.items():
            factor = 1 if name in ("dice", "focal") else weight
            torch.testing.assert_close(losses.pop(name + suffix), factor * loss)
    assert not losses


def test_layers_without_masks_have_no_mask_losses() -> None:
    output = random_layers(layers=4)
    for layer in (0, 1):
        output.aux_outputs[layer].pred_masks = None
    names = set(run(DEVIS, output))
    assert names == {f"{name}{suffix}" for name in NAMES[:3] for suffix in ("", "/aux0", "/aux1", "/aux2")} | {
        f"{name}{suffix}" for name in NAMES[3:] for suffix in ("", "/aux2")
    }
    output.pred_masks = None
    assert "dice" not in run(DEVIS, output)


@pytest.mark.parametrize("name", NAMES)
def test_each_weight_scales_its_loss(name: str) -> None:
    output = random_layers(layers=2)
    losses = run(DEVIS, output)
    doubled = run(replace(DEVIS, **{f"{name}_weight": 2 * getattr(DEVIS, f"{name}_weight")}), output)
    for key, loss in losses.items():
        torch.testing.assert_close(doubled[key], (2 if key.partition("/")[0] == name else 1) * loss)


def test_defaults_are_those_of_the_released_training() -> None:
    """acaelles97/DeVIS src/config.py, configs/devis/YT-19/devis_R_50_YT-19.yaml."""
    weights = (DEVIS.class_weight, DEVIS.box_weight, DEVIS.giou_weight, DEVIS.dice_weight, DEVIS.focal_weight)
    costs = (DEVIS.matcher.class_cost, DEVIS.matcher.box_cost, DEVIS.matcher.giou_cost)
    assert weights == (2, 5, 2, 1, 1) and costs == (1, 5, 2) and DEVIS.boxes.giou_eps == 1e-6


def test_absent_frames_learn_the_background_class_only() -> None:
    output = random_layers()
    sum(run(DEVIS, output).values()).backward()
    for clip, q, _, t, present in matched_frames(DEVIS, output, TARGETS):
        assert output.pred_logits.grad[clip, q, t].any()
        assert output.pred_boxes.grad[clip, q, t].any() == present
        assert output.pred_masks.logits.grad[clip, q, t].any() == present
        if not present:
            assert (output.pred_logits.grad[clip, q, t] > 0).all()


def test_masks_are_predicted_for_matched_queries_of_clips_with_instances_only() -> None:
    output, asked = random_layers(layers=2), []

    def predict(clip: int, query: torch.Tensor) -> torch.Tensor:
        asked.append((clip, len(query)))
        return torch.zeros(len(query), 3, 4, 6, requires_grad=True)

    output.pred_masks = output.aux_outputs[0].pred_masks = predict
    run(DEVIS, output, [TARGETS[0], NOTHING[1]])
    assert asked == [(0, 2), (0, 2)]


@pytest.mark.parametrize("config", [DEVIS, RELEASED_DEVIS, TEVIT])
@pytest.mark.parametrize("targets", [TARGETS, NOTHING, [TARGETS[0], NOTHING[1]]])
def test_gradients_are_finite(config: TrajectoryCriterionConfig, targets: list[Targets]) -> None:
    output = random_layers(layers=3)
    sum(run(config, output, targets).values()).backward()
    for layer in (*output.aux_outputs, output):
        assert layer.pred_logits.grad.any()
        for leaf in (layer.pred_logits, layer.pred_boxes, layer.pred_masks.logits):
            assert leaf.grad is None or leaf.grad.isfinite().all()


def test_gradients_of_classes_and_boxes() -> None:
    output = random_layers()
    criterion = DEVIS.build()

    def total(logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        losses = criterion(ModelOutput(logits, boxes, None), TARGETS, 4)
        return torch.stack(list(losses.values())).sum()

    assert torch.autograd.gradcheck(total, (output.pred_logits, output.pred_boxes))


def test_half_precision_masks_are_compared_in_float32() -> None:
    output = random_layers()
    rounded = output.pred_masks.logits.detach().bfloat16()
    output.pred_masks.logits = rounded.float()
    expected = run(DEVIS, output)
    output.pred_masks.logits = rounded
    losses = run(DEVIS, output)
    assert (losses["dice"], losses["focal"]) == (expected["dice"], expected["focal"])


def test_the_criterion_has_no_parameters() -> None:
    assert list(DEVIS.build().parameters()) == []
