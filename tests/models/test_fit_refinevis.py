"""Training steps on clips of 2, 3 and 5 frames: gradients everywhere, and losses that fall."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_refinevis import EVERY, REFINEVIS, tiny_clips, tiny_targets

from vislab.losses.frame_losses import MaskLossConfig
from vislab.losses.point_sampling import PointSamplingConfig
from vislab.losses.refinevis_criterion import RefineVISCriterionConfig
from vislab.models.refinevis import RefineVIS

CRITERION = RefineVISCriterionConfig(masks=MaskLossConfig(points=PointSamplingConfig(num_points=64)), min_iou=0.0)
NO_BOXES = replace(CRITERION, box_weight=0.0, giou_weight=0.0)


def losses_of(model: RefineVIS, frames: int, instances: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    images, padding = tiny_clips(1, frames)
    padding[:] = False
    targets = [tiny_targets(instances, frames, absent=((1, 1),) if instances > 1 else ())]
    torch.manual_seed(seed)
    criterion = (NO_BOXES if model.config is EVERY["mask2former"] else CRITERION).build()
    return criterion(model(images.float(), padding, targets), targets, model.mask_stride)


@pytest.mark.parametrize("name", EVERY)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = EVERY[name].build().train()
    # Zero-initialised layers pass nothing on in the first step
    for parameter in model.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.02)
    torch.stack(list(losses_of(model, 2).values())).sum().backward()
    silent = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert silent == []


@pytest.mark.parametrize("frames", [3, 5])
def test_clips_of_more_frames(frames: int) -> None:
    torch.manual_seed(0)
    losses = losses_of(REFINEVIS.build().train(), frames)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["denoising_refined_mask"] > 0 and losses["association"] > 0


def test_clips_without_objects() -> None:
    torch.manual_seed(0)
    losses = losses_of(REFINEVIS.build().train(), 2, instances=0)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["class"] > 0


@pytest.mark.parametrize("name", EVERY)
def test_losses_fall(name: str) -> None:
    torch.manual_seed(0)
    model = EVERY[name].build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(5):
        total = torch.stack(list(losses_of(model, 2).values())).sum()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        totals.append(total.item())
    assert min(totals[-2:]) < totals[0]
