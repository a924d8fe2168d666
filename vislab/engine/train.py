"""The training loop: one function that can be read from top to bottom, resumable bit by bit.

Nothing random outlives a step: clips derive from (seed, step, sample), torch's generator is reseeded from (seed, step)
and the learning rate is a function of the step. A checkpoint therefore holds weights, optimiser and step, no more.
Several processes that share the steps go through the same loop (`vislab.engine.split`).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vislab.engine.checkpoint import Elapsed, TrainingState, resume, save_checkpoint
from vislab.engine.config import TrainConfig
from vislab.engine.diagnose import TrainingError, explain_non_finite
from vislab.engine.journal import Clock, MetricsLog, NoLog
from vislab.engine.loading import prefetched
from vislab.engine.log_sinks import Sink
from vislab.engine.optimizer import set_learning_rate
from vislab.engine.progress import Watcher
from vislab.engine.split import MicroBatch, Split, Steps, split_step
from vislab.engine.stopping import Stopped, stop_requests
from vislab.engine.team import Team, current_team
from vislab.structures import Batch

__all__ = ["MicroBatch", "accumulate_gradients", "train", "train_step"]


def train(
    state: TrainingState,
    load_batch: Callable[[MicroBatch], Batch],
    config: TrainConfig,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    watcher: Watcher,
    sink: Sink | None = None,
) -> Elapsed:
    """Train up to `config.steps`, from the newest checkpoint in `folder` if there is one.

    load_batch must depend on nothing but its argument; it is called on another thread, one batch ahead. Every process
    of a team calls this with an equal state; the first one writes the files. Appends a line to folder/metrics.jsonl
    every `log_every` steps, and tells it to `sink`. Raises TrainingError when a loss or the gradient is not finite,
    before the weights are touched by it, and UserError if there are too few clips for the processes. When one process
    is told to stop (`stopping`), all do, after a checkpoint.
    """
    team = current_team()
    split = split_step(config, team.rank, team.size)
    elapsed = resume(folder, state, team, watcher.notice)
    steps = range(elapsed.step, config.steps)
    log = MetricsLog(folder / "metrics.jsonl", elapsed.step, sink) if team.leads else NoLog()
    clock = Clock(elapsed, device)
    state.model.train()
    state.criterion.train()
    work = Steps(state.model, state.criterion, split, team)
    batches = prefetched(load_batch, (part for step in steps for part in split.micro_batches(step)))
    with stop_requests() as told_to_stop, contextlib.closing(batches):
        for step in steps:
            rate = set_learning_rate(state.optimizer, config, step)
            step_batches = [work.padded(batch).to(device) for batch in itertools.islice(batches, len(split.numbers))]
            losses, norm = train_step(state, step_batches, config, seed, step, work)
            elapsed = clock.at(step + 1)
            log.add(losses)
            if elapsed.step % config.log_every == 0 or elapsed.step == config.steps:
                log.write(elapsed, learning_rate=rate, gradient_norm=norm)
            stop = team.any(told_to_stop())
            if team.leads and (stop or (elapsed.step % config.checkpoint_every == 0 and elapsed.step < config.steps)):
                save_checkpoint(folder, state, elapsed)
            watcher.update("train", elapsed.step, config.steps, loss=sum(losses.values()))
            if stop:
                raise Stopped(f"told to stop after step {elapsed.step}")
    return elapsed


def train_step(
    state: TrainingState, batches: list[Batch], config: TrainConfig, seed: int, step: int, work: Steps | None = None
) -> tuple[dict[str, float], float]:
    """One optimiser step over the micro batches. Returns the weighted losses by name and the gradient's L2 norm.

    work: how the step is shared with other processes, None: not at all.
    """
    work = work or _alone(state, batches)
    losses = accumulate_gradients(state, batches, config, seed, step, work)
    own = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
    values = _mean(own, work.team)
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf).item()
    if not math.isfinite(norm) or not all(map(math.isfinite, values.values())):
        replay = lambda: accumulate_gradients(state, batches, config, seed, step, work)  # noqa: E731
        names = [name for batch in batches for name in batch.video_names]
        found = explain_non_finite(state.model, state.criterion, losses, step, names, replay)
        raise _first_found(found, all(map(math.isfinite, own.values())), work.team)
    state.optimizer.step()
    return values, norm


def accumulate_gradients(
    state: TrainingState, batches: list[Batch], config: TrainConfig, seed: int, step: int, work: Steps | None = None
) -> dict[str, Tensor]:
    """Forward and backward passes; the gradient is the mean over the micro batches, as are the returned losses.

    Of several processes, the gradient is that of all, while each has the losses of its own micro batches.
    """
    work = work or _alone(state, batches)
    state.optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for index, batch in enumerate(batches):
        device = batch.images.device.type
        with work.micro_batch(index, seed, step):
            with torch.autocast(device, torch.bfloat16, enabled=config.amp and device == "cuda"):
                losses, total = work.losses(batch)
            if total.requires_grad:  # not where only the mask head is trained and the clips show nothing
                total.div(len(batches)).backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0.0) + value.detach() / len(batches)
    return means


def _alone(state: TrainingState, batches: list[Batch]) -> Steps:
    """One process does all of these micro batches."""
    return Steps(state.model, state.criterion, Split(range(len(batches)), 1, 0, 0, 0, 0), Team())


def _mean(own: dict[str, float], team: Team) -> dict[str, float]:
    """Over the processes. A loss that one of them does not have, such as that of queries it has no use for, is zero."""
    if team.size == 1:
        return own
    every = team.gathered(own)
    names = {name: None for losses in every for name in losses}
    return {name: sum(losses.get(name, 0.0) for losses in every) / team.size for name in names}


def _first_found(error: TrainingError, losses_finite: bool, team: Team) -> TrainingError:
    """Of the processes' explanations that of the first one whose own losses are to blame, if any."""
    return min(team.gathered((losses_finite, team.rank, error)), key=lambda found: found[:2])[2]
