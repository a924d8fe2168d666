"""Mask losses on predicted boxes against loops over clips, queries and frames."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from loss_cases import noise, random_output, random_targets
from torch import Tensor

from vislab.errors import UserError
from vislab.losses.masks import dice_loss, squared_dice_loss
from vislab.losses.region_masks import region_mask_losses
from vislab.losses.trajectory_criterion import tevit_losses
from vislab.losses.trajectory_matching import match_trajectories
from vislab.structures import Targets

SIDE, CELL = 4, 2  # cells of a mask, pixels of a cell
TARGETS = [random_targets(2, 3, 5, 1, [[1, 0, 1], [1, 1, 1]]), random_targets(1, 3, 5, 2)]
MATCHES = [(torch.tensor([3, 0]), torch.tensor([1, 0])), (torch.tensor([2]), torch.tensor([0]))]
NOTHING = [random_targets(0, 3, 5, 1), random_targets(0, 3, 5, 2)]
NO_MATCHES = [(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))] * 2


class StoredRegions:
    """Masks (B, T, Q, K, s, s) on boxes whose cells are whole pixels; remembers how often it was asked."""

    def __init__(self) -> None:
        self.logits = noise(2, 3, 4, 5, SIDE, SIDE).requires_grad_()
        corner = torch.randint(0, 8, (2, 3, 4, 2), generator=torch.Generator().manual_seed(0)).double()
        self.boxes = torch.cat((corner, corner + SIDE * CELL), dim=-1)
        self.calls = 0

    def __call__(self, batch_index: int, query_index: Tensor, labels: Tensor | None = None) -> Tensor:
        raise AssertionError("no mask on the image is asked for")

    def on_regions(
        self, batch_index: Tensor, query_index: Tensor, frame_index: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        self.calls += 1
        place = batch_index, frame_index, query_index
        return self.logits[*place, labels], self.boxes[place]


def slow_dice(regions: StoredRegions, squared: bool, absent: str) -> Tensor:
    """A loop over pairs; a cell is foreground if at least half of its pixels are."""
    total = torch.zeros(())
    for clip, (target, (queries, instances)) in enumerate(zip(TARGETS, MATCHES, strict=True)):
        for query, instance in zip(queries.tolist(), instances.tolist(), strict=True):
            for frame in range(3):
                if absent == "ignore" and not target.present[instance, frame]:
                    continue
                x, y = regions.boxes[clip, frame, query, :2].long().tolist()
                cut = target.masks[instance, frame, y : y + SIDE * CELL, x : x + SIDE * CELL]
                cells = cut.reshape(SIDE, CELL, SIDE, CELL).float().mean((1, 3)) >= 0.5
                logits = regions.logits[clip, frame, query, target.labels[instance]].float()
                loss = squared_dice_loss if squared else dice_loss
                total = total + loss(logits.reshape(1, -1), cells.reshape(1, -1).float()).sum()
    return total / 7.0


@pytest.mark.parametrize("dice", ["smooth", "squared"])
@pytest.mark.parametrize("absent", ["ignore", "regress"])
def test_pairs_of_instance_and_frame(dice: Literal["smooth", "squared"], absent: Literal["ignore", "regress"]) -> None:
    regions = StoredRegions()
    found, focal = region_mask_losses(regions, TARGETS, MATCHES, 7.0, absent=absent, dice=dice)
    expected = slow_dice(regions, dice == "squared", absent)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, regions.logits, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, regions.logits)[0])
    assert regions.calls == 1 and focal > 0


def test_without_instances_nothing_is_predicted() -> None:
    regions = StoredRegions()
    assert region_mask_losses(regions, NOTHING, NO_MATCHES, 1.0, absent="ignore", dice="squared") == (0.0, 0.0)
    assert regions.calls == 0


@pytest.mark.parametrize("targets", [TARGETS, NOTHING])
def test_criterion_asks_once_per_layer(targets: list[Targets]) -> None:
    output = random_output(2, 4, 3, 5, layers=3, frame_logits=True)
    layers = [*output.aux_outputs, output]
    for layer in layers:
        layer.pred_masks = StoredRegions()
    losses = tevit_losses().build()(output, targets, mask_stride=1)
    assert [layer.pred_masks.calls for layer in layers] == [int(targets is TARGETS)] * 3
    matches = match_trajectories(output, targets, tevit_losses().matcher, tevit_losses().boxes)
    present = max(1, sum(int(target.present.sum()) for target in targets))
    dice, _ = region_mask_losses(output.pred_masks, targets, matches, present, absent="ignore", dice="squared")
    torch.testing.assert_close(losses["dice"], 8 * dice)
    assert losses["focal"] == 0 and sum(losses.values()).isfinite()


def test_a_model_without_regions() -> None:
    output = random_output(2, 4, 3, 5, frame_logits=True)
    with pytest.raises(UserError, match="criterion.masks_on is 'regions', expected 'image'"):
        tevit_losses().build()(output, TARGETS, mask_stride=4)
