"""Sequence matching against brute force over all assignments."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from loss_cases import least_cost, random_boxes, random_output, random_targets, slow_cost

from vislab.losses.matching import MatcherConfig, focal_class_cost, match_sequences, sequence_box_costs
from vislab.structures import Targets

PRESENT = [[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 0]]


def cost_matrix(output, target: Targets, config: MatcherConfig, clip: int) -> list[list[float]]:
    queries = range(output.pred_logits.shape[1])
    return [
        [
            slow_cost(output.pred_logits[clip, q], output.pred_boxes[clip, q], target, n, config)
            for n in range(len(target.labels))
        ]
        for q in queries
    ]


@pytest.mark.parametrize("config", [MatcherConfig(), MatcherConfig(1.0, 3.0, 0.5, box_power=1.0)])
@pytest.mark.parametrize("queries", [5, 3, 2])
@pytest.mark.parametrize("seed", range(3))
def test_assignment_costs_least(config: MatcherConfig, queries: int, seed: int) -> None:
    output = random_output(2, queries, 4, classes=6, seed=seed)
    targets = [random_targets(3, 4, 6, seed + 1, PRESENT), random_targets(1, 4, 6, seed + 2)]
    matches = match_sequences(output, targets, config)
    for clip, (target, (query_index, instance_index)) in enumerate(zip(targets, matches, strict=True)):
        assert query_index.dtype == instance_index.dtype == torch.int64
        assert len(query_index) == len(set(query_index.tolist())) == min(queries, len(target.labels))
        assert len(instance_index) == len(set(instance_index.tolist())) == len(query_index)
        cost = cost_matrix(output, target, config, clip)
        found = sum(cost[q][n] for q, n in zip(query_index.tolist(), instance_index.tolist(), strict=True))
        assert found == pytest.approx(least_cost(cost), abs=1e-4)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_box_costs_equal_loops(power: float) -> None:
    boxes, target = random_boxes(5, 4, seed=3), random_targets(3, 4, 6, 1, PRESENT)
    distance, negative_giou = sequence_box_costs(boxes, target, power)
    config = MatcherConfig(class_cost=0.0, box_power=power)
    for q, n in itertools.product(range(5), range(3)):
        alone = replace(config, giou_cost=0.0, box_cost=1.0)
        assert distance[q, n].item() == pytest.approx(slow_cost(torch.zeros(6), boxes[q], target, n, alone), abs=1e-5)
        alone = replace(config, giou_cost=1.0, box_cost=0.0)
        expected = slow_cost(torch.zeros(6), boxes[q], target, n, alone)
        assert negative_giou[q, n].item() == pytest.approx(expected, abs=1e-4)


def test_box_distance_of_visible_instances_is_the_norm_of_the_whole_sequence() -> None:
    boxes, target = random_boxes(5, 4, seed=3), random_targets(3, 4, 6, 1)
    for power in (1.0, 2.0):
        expected = torch.cdist(boxes.flatten(1), target.boxes.flatten(1), p=power)
        torch.testing.assert_close(sequence_box_costs(boxes, target, power)[0], expected, atol=1e-6, rtol=0)


def test_absent_frames_do_not_count() -> None:
    output, target = random_output(1, 5, 4, classes=6), random_targets(3, 4, 6, 1, PRESENT)
    other = replace(target, boxes=torch.where(target.present[..., None], target.boxes, 0.9))
    for first, second in zip(
        sequence_box_costs(output.pred_boxes[0], target, 2.0), sequence_box_costs(output.pred_boxes[0], other, 2.0),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_constant_error_costs_the_same_however_often_the_instance_is_seen(power: float) -> None:
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.2], dtype=torch.float64).expand(1, 4, 4)
    target = random_targets(3, 4, 6, 1, PRESENT)
    target.boxes = (boxes + 0.01).expand(3, 4, 4)
    distance, negative_giou = sequence_box_costs(boxes, target, power)
    torch.testing.assert_close(distance, distance[:, :1].expand(1, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(negative_giou, negative_giou[:, :1].expand(1, 3), atol=1e-6, rtol=0)


def test_an_instance_that_is_never_seen_costs_nothing_for_boxes() -> None:
    target = random_targets(1, 3, 6, 1, [[0, 0, 0]])
    for cost in sequence_box_costs(random_boxes(4, 3), target, 2.0):
        torch.testing.assert_close(cost, torch.zeros_like(cost))


def test_class_cost_prefers_the_confident_query() -> None:
    logits = torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    cost = focal_class_cost(logits, torch.tensor([0, 1, 1]))
    assert cost.shape == (2, 3) and cost.argmin(0).tolist() == [0, 1, 1]


def test_no_instances() -> None:
    matches = match_sequences(random_output(1, 4, 3, 6), [random_targets(0, 3, 6, 1)], MatcherConfig())
    assert [index.tolist() for index in matches[0]] == [[], []]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_cost_that_is_no_number_still_ends(value: float) -> None:
    output = random_output(1, 4, 3, 6)
    output.pred_boxes = torch.full_like(output.pred_boxes, value)
    output.pred_logits = torch.full_like(output.pred_logits, value)
    ((query_index, _),) = match_sequences(output, [random_targets(2, 3, 6, 1)], MatcherConfig())
    assert len(query_index) == 2


def test_matching_takes_no_gradient() -> None:
    output = random_output(1, 4, 3, 6)
    match_sequences(output, [random_targets(2, 3, 6, 1)], MatcherConfig())
    assert output.pred_boxes.grad is None and output.pred_boxes.requires_grad


def test_half_precision_outputs_are_matched_in_float32() -> None:
    output = random_output(1, 5, 4, 6)
    target = random_targets(3, 4, 6, 1, PRESENT)
    exact = match_sequences(output, [target], MatcherConfig())
    output.pred_boxes, output.pred_logits = output.pred_boxes.bfloat16(), output.pred_logits.bfloat16()
    rounded = match_sequences(output, [target], MatcherConfig())
    assert [index.tolist() for index in exact[0]] == [index.tolist() for index in rounded[0]]
