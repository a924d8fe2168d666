"""The training loop: one function that can be read from top to bottom, resumable bit by bit.

Nothing random outlives a step: clips derive from (seed, step, sample), torch's generator is reseeded from (seed, step)
and the learning rate is a function of the step. A checkpoint therefore holds weights, optimiser and step, no more.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vislab.engine.checkpoint import Elapsed, TrainingState, load_checkpoint, save_checkpoint
from vislab.engine.config import TrainConfig
from vislab.engine.diagnose import explain_non_finite
from vislab.engine.journal import Clock, MetricsLog
from vislab.engine.loading import prefetched
from vislab.engine.optimizer import set_learning_rate
from vislab.engine.progress import Watcher
from vislab.engine.seeding import seed_torch
from vislab.structures import Batch


@dataclass(frozen=True)
class MicroBatch:
    """Which clips: `size` of them from number `first_clip` of `step` on."""

    step: int
    first_clip: int
    size: int


def train(
    state: TrainingState,
    load_batch: Callable[[MicroBatch], Batch],
    config: TrainConfig,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    watcher: Watcher,
) -> Elapsed:
    """Train up to `config.steps`, from the newest checkpoint in `folder` if there is one.

    load_batch must depend on nothing but its argument; it is called on another thread, one batch ahead.
    Appends a line to folder/metrics.jsonl every `log_every` steps. Raises TrainingError when a loss or the gradient is
    not finite, before the weights are touched by it.
    """
    elapsed = load_checkpoint(folder, state, watcher.notice)
    steps = range(elapsed.step, config.steps)
    log = MetricsLog(folder / "metrics.jsonl", elapsed.step)
    clock = Clock(elapsed, device)
    state.model.train()
    state.criterion.train()
    size = config.micro_batch or config.batch_size
    parts = range(0, config.batch_size, size)
    batches = prefetched(load_batch, (MicroBatch(step, first, size) for step in steps for first in parts))
    with contextlib.closing(batches):
        for step in steps:
            rate = set_learning_rate(state.optimizer, config, step)
            step_batches = [batch.to(device) for batch in itertools.islice(batches, len(parts))]
            losses, norm = train_step(state, step_batches, config, seed, step)
            elapsed = clock.at(step + 1)
            log.add(losses)
            if elapsed.step % config.log_every == 0 or elapsed.step == config.steps:
                log.write(elapsed, learning_rate=rate, gradient_norm=norm)
            if elapsed.step % config.checkpoint_every == 0 and elapsed.step < config.steps:
                save_checkpoint(folder, state, elapsed)
            watcher.update("train", elapsed.step, config.steps, loss=sum(losses.values()))
    return elapsed


def train_step(
    state: TrainingState, batches: list[Batch], config: TrainConfig, seed: int, step: int
) -> tuple[dict[str, float], float]:
    """One optimiser step over the micro batches. Returns the weighted losses by name and the gradient's L2 norm."""
    losses = accumulate_gradients(state, batches, config, seed, step)
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf).item()
    values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
    if not math.isfinite(norm) or not all(map(math.isfinite, values.values())):
        replay = lambda: accumulate_gradients(state, batches, config, seed, step)  # noqa: E731
        names = [name for batch in batches for name in batch.video_names]
        raise explain_non_finite(state.model, state.criterion, losses, step, names, replay)
    state.optimizer.step()
    return values, norm


def accumulate_gradients(
    state: TrainingState, batches: list[Batch], config: TrainConfig, seed: int, step: int
) -> dict[str, Tensor]:
    """Forward and backward passes; the gradient is the mean over the micro batches, as are the returned losses."""
    seed_torch(seed, "step", step)
    state.optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for batch in batches:
        device = batch.images.device.type
        with torch.autocast(device, torch.bfloat16, enabled=config.amp and device == "cuda"):
            output = forward(state.model, batch)
            losses = state.criterion(output, batch.targets, state.model.mask_stride)
        total = torch.stack(list(losses.values())).sum().div(len(batches))
        if total.requires_grad:  # not where only the mask head is trained and the clips show nothing
            total.backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0.0) + value.detach() / len(batches)
    return means


def forward(model: nn.Module, batch: Batch) -> Any:
    """The model's output for a training batch. A model with reads_targets = True is told targets and frame numbers as
    well, for denoising queries and the like."""
    known = (batch.targets, batch.frame_numbers) if getattr(model, "reads_targets", False) else ()
    return model(batch.images, batch.padding_mask, *known)
