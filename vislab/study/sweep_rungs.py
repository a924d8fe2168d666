"""How good a run is before its end: training stops at a checkpoint, which is measured, and may go on from it.

Nothing is trained twice for it, and the run ends bit by bit as one that was never stopped: a pause is the end of a
process at a checkpoint, which any run survives. A run has a rung wherever it writes a checkpoint before its last step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vislab.data import load_dataset
from vislab.engine import execute
from vislab.engine.config import RunConfig, TrainConfig
from vislab.engine.device import resolve_device, torch_threads
from vislab.engine.evaluate import evaluate_model
from vislab.engine.progress import Watcher
from vislab.engine.seeding import deterministic_algorithms
from vislab.engine.team import current_team
from vislab.records import RunStore, read_json, write_json

_FRACTIONS = (1 / 4, 1 / 2, 3 / 4)


class _Paused(Exception):
    """Raised out of the training loop, whose checkpoint is written."""


class _Pausing:
    """Watches as the other one does, and stops the training after a step."""

    def __init__(self, watcher: Watcher, step: int) -> None:
        self._watcher, self._step = watcher, step

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        self._watcher.update(stage, step, total, loss=loss)
        if stage == "train" and step == self._step:
            raise _Paused

    def notice(self, text: str) -> None:
        self._watcher.notice(text)


def rungs(train: TrainConfig) -> tuple[int, ...]:
    """The steps with a checkpoint that are nearest to a quarter, a half and three quarters of the training."""
    steps = range(train.checkpoint_every, train.steps, train.checkpoint_every)
    nearest = {min(steps, key=lambda step: abs(step - part * train.steps)) for part in _FRACTIONS} if steps else set()
    return tuple(sorted(nearest))


def rung_path(store: RunStore, run: RunConfig, step: int) -> Path:
    """Where the number is noted: {"AP": a fraction, or null where it is undefined}."""
    return store.train_dir(run.train_key) / "rungs" / f"{step:08d}-{run.eval_key}" / "rung.json"


def measure_at(
    step: int,
    run: RunConfig,
    store: RunStore,
    device: str,
    watcher: Watcher,
    *,
    threads: int | None = None,
    sinks: Sequence[str] = (),
) -> float | None:
    """AP after a training step that is in `rungs`; None if the run is beyond it, and then it is finished instead.

    Raises what `execute` raises.
    """
    path, team = rung_path(store, run, step), current_team()
    checkpoint = store.train_dir(run.train_key) / f"checkpoint-{step:08d}.json"
    if team.agree(lambda: not path.exists() and not checkpoint.exists()):
        try:
            execute(run, store, device, _Pausing(watcher, step), threads=threads, sinks=sinks)
        except _Paused:
            pass
        else:
            return None
    if team.agree(lambda: not path.exists()):
        target = team.device(resolve_device(device))
        locked = team.exclusive(path.parent, lambda lock: None)
        with torch_threads(threads), deterministic_algorithms(target.type == "cpu"), locked:
            found = _evaluate(checkpoint, run, path.parent, target, watcher)
            if team.leads:
                write_json(path, {"AP": found["metrics"]["AP"]})
    return team.agree(lambda: read_json(path)["AP"])


def _evaluate(checkpoint: Path, run: RunConfig, folder: Path, device: torch.device, watcher: Watcher) -> dict[str, Any]:
    """What `evaluate_model` returns."""
    tensors = load_file(checkpoint.with_suffix(".safetensors"))
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    model = run.model.build()
    model.load_state_dict(weights)
    dataset = load_dataset(run.evaluation.data, run.evaluation.split)
    return evaluate_model(
        model.to(device).eval(), dataset, run.evaluation, folder=folder, device=device, watcher=watcher
    )
