"""SimOTA: optimal transport assignment of several queries to one instance (Ge et al., OTA, YOLOX; RefineVIS 4.1).

Shape letters: Q queries, K classes, N instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vislab.losses.matching import assign, focal_class_cost
from vislab.ops.boxes import box_cxcywh_to_xyxy, box_iou_pairwise, generalized_box_iou_pairwise

FAR, OUTSIDE = 100.0, 10000.0  # added to the cost: not near the centre of this instance; near no instance at all


@dataclass(frozen=True)
class OptimalTransportConfig:
    """Costs and number of positives; defaults are IDOL's (wjf5203/VNext projects/IDOL/idol/models/matcher.py:61-190).

    num_candidates: an instance gets as many queries as its best so many IoUs add up to, rounded down, at least one.
    centre_radius: half of the square around an instance's centre that counts as near, in units of the image's width
    and height; the release divides a radius of 2.5 cells by 32 as if boxes were in pixels.
    """

    class_cost: float = 1.0
    giou_cost: float = 3.0
    num_candidates: int = 10
    centre_radius: float = 2.5 / 32


class Transport(NamedTuple):
    """chosen: (Q, N) bool, a query belongs to one instance at most. best: (N,) int64, the cheapest query of each
    instance, -1 where it has none, which needs more instances than queries."""

    chosen: Tensor
    best: Tensor

    @property
    def matches(self) -> tuple[Tensor, Tensor]:
        """query_index and instance_index of all pairs, as `assign` gives them."""
        query_index, instance_index = self.chosen.nonzero(as_tuple=True)
        return query_index, instance_index


@torch.no_grad()
def transport(
    logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor, config: OptimalTransportConfig
) -> Transport:
    """Assigns queries of one frame to the instances in it.

    logits: (Q, K). boxes: (Q, 4). labels: (N,) int64. wanted: (N, 4). Boxes are cxcywh in [0, 1].
    """
    logits, boxes, wanted = logits.float(), boxes.float(), wanted.float()
    corners, wanted_corners = box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(wanted)
    cost = config.class_cost * focal_class_cost(logits, labels)
    cost = cost - config.giou_cost * generalized_box_iou_pairwise(corners, wanted_corners)
    inside, near = _centres(boxes[:, :2], wanted, config.centre_radius)
    cost = cost + FAR * ~(inside & near) + OUTSIDE * ~(inside | near).any(1, keepdim=True)
    cost = cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
    return choose(cost, box_iou_pairwise(corners, wanted_corners), config.num_candidates)


def choose(cost: Tensor, iou: Tensor, num_candidates: int) -> Transport:
    """Dynamic k: (Q, N) costs and IoUs to an assignment.

    Each instance takes its k cheapest queries; a query that several take goes to the one for which it is cheapest;
    instances that are left without one share out the free queries one to one, at least total cost (the release hands
    them out one after the other, in a loop that may repeat).
    """
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    num_queries, num_instances = cost.shape
    if not cost.numel():
        return Transport(chosen, torch.full((num_instances,), -1, device=cost.device))
    best_ious = iou.topk(min(num_candidates, num_queries), dim=0).values
    counts = best_ious.nan_to_num().sum(0).int().clamp(min=1)
    for instance, count in enumerate(counts.tolist()):
        chosen[cost[:, instance].topk(count, largest=False).indices, instance] = True
    contested = chosen.sum(1) > 1
    cheapest = torch.nn.functional.one_hot(cost.masked_fill(~chosen, torch.inf).argmin(1), num_instances).bool()
    chosen = torch.where(contested[:, None], cheapest, chosen)
    without, free = (~chosen.any(0)).nonzero()[:, 0], (~chosen.any(1)).nonzero()[:, 0]
    rows, columns = assign(cost[free][:, without])
    chosen[free[rows], without[columns]] = True
    best = cost.masked_fill(~chosen, torch.inf).argmin(0)
    return Transport(chosen, best.masked_fill(~chosen.any(0), -1))


def _centres(points: Tensor, wanted: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Which points (Q, 2) lie inside the boxes (N, 4), and which near their centres: two (Q, N) bool."""
    distance = (points[:, None] - wanted[:, :2]).abs()
    return (distance < wanted[:, 2:] / 2).all(-1), (distance < radius).all(-1)
