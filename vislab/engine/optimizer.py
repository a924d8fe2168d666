"""AdamW with slower groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from vislab.engine.config import TrainConfig


def build_optimizer(model: nn.Module, criterion: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over everything trainable in the model and in the losses.

    Parameters under `model.backbone` and those named in `config.slow_names` learn slower, as in Deformable DETR
    (fundamentalvision/Deformable-DETR main.py). Each group keeps its factor under "multiplier".
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    named += [(f"criterion.{name}", parameter) for name, parameter in criterion.named_parameters()]
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        groups.setdefault(_multiplier(name, config), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "multiplier": factor} for factor, members in groups.items()],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> float:
    """Set every group's learning rate for `step` (0-based); returns the base one."""
    rate = config.learning_rate * schedule_factor(config, step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
    return rate


def schedule_factor(config: TrainConfig, step: int) -> float:
    """Learning rate at `step` (0-based), relative to the base one: linear warm-up, then drops or half a cosine."""
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "step":
        passed = sum(step >= round(milestone * config.steps) for milestone in config.milestones)
        return config.decay**passed
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * progress))


def _multiplier(name: str, config: TrainConfig) -> float:
    if name.startswith("backbone."):
        return config.backbone_multiplier
    if any(part in name for part in config.slow_names):
        return config.slow_multiplier
    return 1.0
