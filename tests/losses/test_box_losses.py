"""L1 and GIoU of box sequences against loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_cases import random_boxes, random_targets, slow_giou

from vislab.losses.boxes import BoxComparisonConfig, box_losses

TARGETS = [random_targets(2, 3, 5, 1, [[1, 0, 1], [1, 1, 1]]), random_targets(1, 3, 5, 2, [[0, 1, 0]])]
MATCHES = [(torch.tensor([3, 0]), torch.tensor([1, 0])), (torch.tensor([2]), torch.tensor([0]))]
BOXES = random_boxes(2, 4, 3, seed=7)


def test_equals_loops() -> None:
    l1 = giou = 0.0
    for clip, (target, match) in enumerate(zip(TARGETS, MATCHES, strict=True)):
        for q, n in zip(*(index.tolist() for index in match), strict=True):
            frames = [t for t in range(3) if target.present[n, t]]
            for t in frames:
                box, wanted = BOXES[clip, q, t].tolist(), target.boxes[n, t].tolist()
                l1 += sum(abs(x - y) for x, y in zip(box, wanted, strict=True)) / len(frames)
                giou += (1 - slow_giou(box, wanted)) / len(frames)
    found = box_losses(BOXES, TARGETS, MATCHES, 3.0)
    assert found[0].item() == pytest.approx(l1 / 3, abs=1e-6)
    assert found[1].item() == pytest.approx(giou / 3, abs=1e-4)


def test_absent_frames_do_not_count() -> None:
    other = [replace(t, boxes=torch.where(t.present[..., None], t.boxes, 0.9)) for t in TARGETS]
    boxes = BOXES.clone().requires_grad_()
    losses = box_losses(boxes, other, MATCHES, 3.0)
    torch.testing.assert_close(losses, box_losses(BOXES, TARGETS, MATCHES, 3.0))
    sum(losses).backward()
    assert not boxes.grad[1, 2, [0, 2]].any() and boxes.grad[1, 2, 1].any()


def test_only_matched_queries_get_a_gradient() -> None:
    boxes = BOXES.clone().requires_grad_()
    sum(box_losses(boxes, TARGETS, MATCHES, 3.0)).backward()
    touched = boxes.grad.abs().sum((2, 3)) > 0
    assert touched.tolist() == [[True, False, False, True], [False, False, True, False]]


def test_perfect_boxes_cost_nothing() -> None:
    boxes = BOXES.clone()
    for clip, (target, (queries, instances)) in enumerate(zip(TARGETS, MATCHES, strict=True)):
        boxes[clip, queries] = target.boxes[instances]
    l1, giou = box_losses(boxes, TARGETS, MATCHES, 3.0)
    assert l1.item() == 0 and giou.item() == pytest.approx(0, abs=1e-3)


def test_no_instances_and_never_seen_instances() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    boxes = BOXES[:1].clone().requires_grad_()
    nothing = box_losses(boxes, [random_targets(0, 3, 5, 1)], [(empty, empty)], 1.0)
    unseen = box_losses(boxes, [random_targets(1, 3, 5, 1, [[0, 0, 0]])], [MATCHES[1]], 1.0)
    assert [loss.item() for loss in (*nothing, *unseen)] == [0, 0, 0, 0]
    sum((*nothing, *unseen)).backward()
    assert not boxes.grad.any()


def test_degenerate_boxes_have_finite_gradients() -> None:
    boxes = torch.zeros(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    target = random_targets(1, 3, 5, 1)
    target.boxes = torch.zeros_like(target.boxes)
    sum(box_losses(boxes, [target], [(torch.tensor([0]), torch.tensor([0]))], 1.0)).backward()
    assert boxes.grad.isfinite().all()


def test_gradients() -> None:
    boxes = BOXES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: box_losses(x, TARGETS, MATCHES, 3.0), boxes)


def test_boxes_may_be_compared_by_their_corners() -> None:
    first, second = torch.tensor([0.5, 0.5, 0.2, 0.4]), torch.tensor([0.5, 0.6, 0.4, 0.4])
    centres = BoxComparisonConfig().differences(first, second)
    torch.testing.assert_close(centres, torch.tensor([0.0, 0.1, 0.2, 0.0]))
    by_corners = BoxComparisonConfig(l1_format="xyxy").differences(first, second)
    torch.testing.assert_close(by_corners, torch.tensor([0.1, 0.1, 0.1, 0.1]))


@pytest.mark.parametrize(("eps", "of_points"), [(0.0, 0.0), (1e-6, 0.0)])
def test_boxes_without_area_have_a_giou(eps: float, of_points: float) -> None:
    comparison, point = BoxComparisonConfig(giou_eps=eps), torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    giou = comparison.giou(point, point.detach())
    giou.backward()
    assert giou.item() == of_points and point.grad is not None and point.grad.isfinite().all()
