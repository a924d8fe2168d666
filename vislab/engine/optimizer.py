"""AdamW with slower groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from vislab.engine.config import TrainConfig
from vislab.errors import UserError


def build_optimizer(model: nn.Module, criterion: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over everything trainable in the model and in the losses, whose parameters are called "criterion...".

    Parameters under `model.backbone` and those named in `config.slow_names` learn slower, as in Deformable DETR
    (fundamentalvision/Deformable-DETR main.py); `config.multipliers` go first. What has a factor of 0 is frozen: it
    needs no gradient from then on. Each group keeps its factor under "multiplier". Raises UserError for a multiplier
    that fits no parameter, and where nothing is left to train.
    """
    named = [*model.named_parameters(), *((f"criterion.{name}", p) for name, p in criterion.named_parameters())]
    for text, _ in config.multipliers:
        if not any(text in name for name, _ in named):
            parts = ", ".join(sorted({name.split(".")[0] for name, _ in named}))
            raise UserError(f"train.multipliers has {text!r}, which is in no parameter's name; they start with {parts}")
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        factor = _multiplier(name, config)
        if factor == 0:
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            groups.setdefault(factor, []).append(parameter)
    if not groups:
        raise UserError(f"train.multipliers is {config.multipliers}, which leaves no parameter to train")
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
    for text, factor in config.multipliers:
        if text in name:
            return factor
    if name.startswith("backbone."):
        return config.backbone_multiplier
    if any(part in name for part in config.slow_names):
        return config.slow_multiplier
    return 1.0
