"""SimOTA against IDOL's rules written out (wjf5203/VNext projects/IDOL/idol/models/matcher.py)."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import noise, random_boxes
from torch import Tensor

from vislab.losses.optimal_transport import OptimalTransportConfig, choose, transport

CONFIG = OptimalTransportConfig(num_candidates=4)


def corners(box: list[float]) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def overlap(a: list[float], b: list[float]) -> tuple[float, float]:
    """IoU and GIoU."""
    (l1, t1, r1, b1), (l2, t2, r2, b2) = corners(a), corners(b)
    shared = max(0.0, min(r1, r2) - max(l1, l2)) * max(0.0, min(b1, b2) - max(t1, t2))
    union = a[2] * a[3] + b[2] * b[3] - shared
    hull = (max(r1, r2) - min(l1, l2)) * (max(b1, b2) - min(t1, t2))
    return shared / union, shared / union - (hull - union) / hull


def slow_costs(logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor) -> tuple[list, list]:
    costs, ious = [], []
    for query, box in zip(logits.tolist(), boxes.tolist(), strict=True):
        row, row_ious, reached = [], [], False
        for label, target in zip(labels.tolist(), wanted.tolist(), strict=True):
            p = 1 / (1 + math.exp(-query[label]))
            positive = 0.25 * (1 - p) ** 2 * -math.log(p + 1e-8)
            negative = 0.75 * p**2 * -math.log(1 - p + 1e-8)
            iou, giou = overlap(box, target)
            left, top, right, bottom = corners(target)
            inside = left < box[0] < right and top < box[1] < bottom
            near = abs(box[0] - target[0]) < 2.5 / 32 and abs(box[1] - target[1]) < 2.5 / 32
            reached = reached or inside or near
            row.append(positive - negative - 3 * giou + (0 if inside and near else 100))
            row_ious.append(iou)
        costs.append([cost + (0 if reached else 10000) for cost in row])
        ious.append(row_ious)
    return costs, ious


def slow_choice(costs: list, ious: list, candidates: int) -> list[list[bool]]:
    """Without instances that end up without a query."""
    queries, instances = range(len(costs)), range(len(costs[0]))
    chosen = [[False] * len(instances) for _ in queries]
    for i in instances:
        best = sorted((ious[q][i] for q in queries), reverse=True)[:candidates]
        for q in sorted(queries, key=lambda q: costs[q][i])[: max(1, int(sum(best)))]:
            chosen[q][i] = True
    for q in queries:
        mine = [i for i in instances if chosen[q][i]]
        if len(mine) > 1:
            chosen[q] = [i == min(mine, key=lambda i: costs[q][i]) for i in instances]
    return chosen


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_rules_written_out(seed: int) -> None:
    wanted = random_boxes(3, seed=seed)
    boxes = torch.cat([wanted + 0.03 * noise(3, 4, seed=seed + i) for i in range(6)] + [random_boxes(5, seed=seed + 9)])
    boxes = boxes.clamp(0.02, 0.98)
    logits, labels = noise(len(boxes), 4, seed=seed + 50), torch.tensor([0, 3, 1])
    costs, ious = slow_costs(logits, boxes, labels, wanted)
    found = transport(logits, boxes, labels, wanted, CONFIG)
    expected = slow_choice(costs, ious, 4)
    if all(any(row[i] for row in expected) for i in range(3)):
        assert found.chosen.tolist() == expected
        best = [min((q for q in range(len(boxes)) if expected[q][i]), key=lambda q: costs[q][i]) for i in range(3)]
        assert found.best.tolist() == best
    query_index, instance_index = found.matches
    assert found.chosen[query_index, instance_index].all()
    assert len(query_index) == int(found.chosen.sum()) >= 3


def test_more_overlap_gives_more_queries() -> None:
    wanted = torch.tensor([[0.5, 0.5, 0.4, 0.4]])
    boxes = wanted.expand(7, 4).clone()
    boxes[5:, :2] = 0.1
    found = transport(torch.zeros(7, 1), boxes, torch.tensor([0]), wanted, CONFIG)
    assert found.chosen[:, 0].sum() == 4
    assert not found.chosen[5:].any()


def test_an_instance_that_loses_all_its_queries_gets_a_free_one() -> None:
    cost = torch.tensor([[0.0, 1.0], [5.0, 9.0], [6.0, 3.0]])
    found = choose(cost, torch.zeros(3, 2), num_candidates=10)
    assert found.chosen.tolist() == [[True, False], [False, False], [False, True]]
    assert found.best.tolist() == [0, 2]


def test_more_instances_than_queries() -> None:
    cost = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0]])
    found = choose(cost, torch.ones(2, 3), num_candidates=10)
    assert (found.chosen.sum(1) <= 1).all()
    assert found.best.tolist() == [0, 1, -1]


def test_nothing_to_assign() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    empty = transport(torch.zeros(3, 2), torch.rand(3, 4), none, torch.zeros(0, 4), CONFIG)
    assert empty.chosen.shape == (3, 0) and empty.best.shape == (0,)
    assert [len(part) for part in empty.matches] == [0, 0]
    without_queries = transport(torch.zeros(0, 2), torch.rand(0, 4), torch.tensor([1]), torch.rand(1, 4), CONFIG)
    assert without_queries.best.tolist() == [-1]


def test_a_loss_that_is_not_a_number_does_not_stop_it() -> None:
    wanted = random_boxes(2, seed=1)
    logits = torch.full((4, 3), torch.nan)
    assert transport(logits, random_boxes(4, seed=2), torch.tensor([0, 1]), wanted, CONFIG).chosen.any(0).all()
