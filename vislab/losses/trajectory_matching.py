"""Hungarian matching of trajectories (one query in every frame of a clip) to instances (DeVIS, TeViT).

Shape letters: B batch, Q trajectories, T frames, K classes, N instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vislab.losses.boxes import BoxComparisonConfig
from vislab.losses.matching import assign, focal_class_cost
from vislab.structures import ModelOutput, Targets


@dataclass(frozen=True)
class TrajectoryMatcherConfig:
    """Cost weights and what they weigh. Defaults: DeVIS (src/models/matcher.py:75-103, configs/devis).

    l1_cost: "mean" or "sum" over the four coordinates. frames: cost averaged over "all" frames of the clip, with the
    zero box that stands in the targets where the instance is absent, or over those where it is "present".
    TeViT (mmdet/core/bbox/assigners/tevit_hungarian_assigner.py:125-170): class_cost 2, l1_cost "sum", frames
    "present". Single images (HungarianMatcher of DeVIS): class_cost 2, l1_cost "sum".
    """

    class_cost: float = 1.0
    box_cost: float = 5.0
    giou_cost: float = 2.0
    l1_cost: Literal["mean", "sum"] = "mean"
    frames: Literal["all", "present"] = "all"


def trajectory_costs(
    logits: Tensor, boxes: Tensor, target: Targets, config: TrajectoryMatcherConfig, comparison: BoxComparisonConfig
) -> Tensor:
    """Cost of every pair: logits (Q, T, K) and boxes (Q, T, 4) cxcywh of one clip, to (Q, N)."""
    wanted = target.boxes.transpose(0, 1)
    differences = comparison.differences(boxes[:, :, None], wanted)
    cost = (
        config.class_cost * focal_class_cost(logits, target.labels)
        + config.box_cost * (differences.mean(-1) if config.l1_cost == "mean" else differences.sum(-1))
        - config.giou_cost * comparison.giou(boxes[:, :, None], wanted)
    )
    if config.frames == "all":
        return cost.mean(1)
    present = target.present.T.to(cost)
    return (cost * present).sum(1) / present.sum(0).clamp(min=1)


@torch.no_grad()
def match_trajectories(
    output: ModelOutput, targets: list[Targets], config: TrajectoryMatcherConfig, comparison: BoxComparisonConfig
) -> list[tuple[Tensor, Tensor]]:
    """One-to-one assignment of least cost for each clip of the batch.

    Returns, per clip, (query_index, instance_index), as `assign` does.
    """
    assert output.pred_logits.dim() == 4, "trajectories have logits (B, Q, T, K) in every frame"
    return [
        assign(trajectory_costs(logits.float(), boxes.float(), target, config, comparison))
        for logits, boxes, target in zip(output.pred_logits, output.pred_boxes, targets, strict=True)
    ]
