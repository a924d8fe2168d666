"""Trajectory matching against loops over instances, frames and queries, and over all assignments."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from loss_cases import corners, least_cost, random_output, random_targets, slow_class_cost, slow_giou

from vislab.losses.boxes import BoxComparisonConfig
from vislab.losses.matching import assign
from vislab.losses.trajectory_matching import TrajectoryMatcherConfig, match_trajectories, trajectory_costs
from vislab.structures import ModelOutput, Targets

PRESENT = [[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 0]]
DEVIS = TrajectoryMatcherConfig(), BoxComparisonConfig()
TEVIT = (
    TrajectoryMatcherConfig(class_cost=2.0, l1_cost="sum", frames="present"),
    BoxComparisonConfig(l1_format="xyxy", giou_eps=0.0),
)


def slow_cost(
    output: ModelOutput, target: Targets, clip: int, query: int, instance: int, config, comparison: BoxComparisonConfig
) -> float:
    costs = []
    for t in range(output.pred_boxes.shape[2]):
        if config.frames == "present" and not target.present[instance, t]:
            continue
        logit = output.pred_logits[clip, query, t, int(target.labels[instance])].item()
        box, wanted = output.pred_boxes[clip, query, t].tolist(), target.boxes[instance, t].tolist()
        giou = slow_giou(box, wanted, comparison.giou_eps)
        if comparison.l1_format == "xyxy":
            box, wanted = corners(box), corners(wanted)
        l1 = sum(abs(x - y) for x, y in zip(box, wanted, strict=True))
        l1 = l1 / 4 if config.l1_cost == "mean" else l1
        costs.append(config.class_cost * slow_class_cost(logit) + config.box_cost * l1 - config.giou_cost * giou)
    return sum(costs) / max(1, len(costs))


def output(batch: int = 2, queries: int = 5, frames: int = 4, seed: int = 0) -> ModelOutput:
    return random_output(batch, queries, frames, classes=6, seed=seed, frame_logits=True)


def targets(seed: int = 1) -> list[Targets]:
    return [random_targets(3, 4, 6, seed, PRESENT), random_targets(1, 4, 6, seed + 1)]


@pytest.mark.parametrize("conventions", [DEVIS, TEVIT, (replace(DEVIS[0], frames="present", l1_cost="sum"), DEVIS[1])])
def test_costs_equal_loops(conventions: tuple) -> None:
    out, target = output(), targets()[0]
    cost = trajectory_costs(out.pred_logits[1], out.pred_boxes[1], target, *conventions)
    assert cost.shape == (5, 3)
    for q, n in itertools.product(range(5), range(3)):
        assert cost[q, n].item() == pytest.approx(slow_cost(out, target, 1, q, n, *conventions), abs=1e-5)


@pytest.mark.parametrize("conventions", [DEVIS, TEVIT])
@pytest.mark.parametrize("queries", [5, 3, 2])
@pytest.mark.parametrize("seed", range(3))
def test_every_clip_of_the_batch_gets_the_assignment_that_costs_least(
    conventions: tuple, queries: int, seed: int
) -> None:
    out = output(queries=queries, seed=seed)
    matches = match_trajectories(out, targets(seed + 1), *conventions)
    for clip, (target, (query_index, instance_index)) in enumerate(zip(targets(seed + 1), matches, strict=True)):
        count = len(target.labels)
        assert len(set(query_index.tolist())) == len(set(instance_index.tolist())) == min(queries, count)
        cost = [[slow_cost(out, target, clip, q, n, *conventions) for n in range(count)] for q in range(queries)]
        found = sum(cost[q][n] for q, n in zip(query_index.tolist(), instance_index.tolist(), strict=True))
        assert found == pytest.approx(least_cost(cost), abs=1e-4)


def test_where_an_instance_is_absent_matters_only_if_all_frames_count() -> None:
    out, target = output(), targets()[0]
    moved = replace(target, boxes=torch.where(target.present[..., None], target.boxes, 0.9))
    for frames, alike in (("present", True), ("all", False)):
        config = replace(DEVIS[0], frames=frames)
        first, second = (
            trajectory_costs(out.pred_logits[0], out.pred_boxes[0], t, config, DEVIS[1]) for t in (target, moved)
        )
        assert torch.allclose(first, second) == alike


def test_one_frame_is_the_matching_of_images() -> None:
    """Deformable DETR's cost (DefDETR models/matcher.py): class, sum of coordinate differences, GIoU."""
    out, target = output(frames=1), random_targets(3, 1, 6, 1)
    config = TrajectoryMatcherConfig(class_cost=2.0, l1_cost="sum")
    cost = trajectory_costs(out.pred_logits[0], out.pred_boxes[0], target, config, BoxComparisonConfig(giou_eps=0.0))
    expected = 5 * torch.cdist(out.pred_boxes[0, :, 0], target.boxes[:, 0], p=1)
    for q, n in itertools.product(range(5), range(3)):
        expected[q, n] += 2 * slow_class_cost(out.pred_logits[0, q, 0, target.labels[n]].item())
        expected[q, n] -= 2 * slow_giou(out.pred_boxes[0, q, 0].tolist(), target.boxes[n, 0].tolist())
    torch.testing.assert_close(cost, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", ["all", "present"])
def test_no_instances_and_an_instance_that_is_never_seen(frames) -> None:
    config = replace(DEVIS[0], frames=frames)
    nothing, unseen = random_targets(0, 4, 6, 1), random_targets(1, 4, 6, 1, [[0, 0, 0, 0]])
    matches = match_trajectories(output(), [nothing, unseen], config, DEVIS[1])
    assert [len(query_index) for query_index, _ in matches] == [0, 1]


def test_half_precision_outputs_are_matched_in_float32_without_a_gradient() -> None:
    out = output(batch=1)
    exact = match_trajectories(out, targets()[:1], *DEVIS)
    out.pred_boxes, out.pred_logits = out.pred_boxes.bfloat16(), out.pred_logits.bfloat16()
    rounded = match_trajectories(out, targets()[:1], *DEVIS)
    assert [index.tolist() for index in exact[0]] == [index.tolist() for index in rounded[0]]


def test_assigning_nothing_to_nobody() -> None:
    for shape in ((0, 0), (3, 0), (0, 2)):
        assert [index.tolist() for index in assign(torch.zeros(shape))] == [[], []]
