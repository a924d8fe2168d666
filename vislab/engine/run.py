"""One run from configuration to result: what the store already holds is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from vislab.config import to_dict
from vislab.data import VideoDataset, load_dataset
from vislab.data.sampling import training_batch
from vislab.engine.checkpoint import TrainingState, delete_checkpoints, save_tensors
from vislab.engine.config import RunConfig, file_sha256
from vislab.engine.device import resolve_device, torch_threads
from vislab.engine.evaluate import evaluate_model
from vislab.engine.log_sinks import Logged, Sink, flat_numbers, open_sinks
from vislab.engine.optimizer import build_optimizer
from vislab.engine.progress import TerminalWatcher, Watcher
from vislab.engine.seeding import deterministic_algorithms, seed_torch
from vislab.engine.team import current_team
from vislab.engine.train import MicroBatch, train
from vislab.engine.warm_start import warm_start
from vislab.errors import UserError
from vislab.records import RunStore, environment, remove_leftovers, write_json
from vislab.structures import Batch


@dataclass(frozen=True)
class RunResult:
    """What stands in the store after `execute`. record: result.json. folder: of the evaluation.

    trained, evaluated: whether this call did the work, or found it done.
    """

    train_key: str
    eval_key: str
    folder: Path
    record: dict[str, Any]
    trained: bool
    evaluated: bool

    @property
    def metrics(self) -> dict[str, float | None]:
        """Fractions by name; None where undefined."""
        return self.record["metrics"]


def execute(
    run: RunConfig,
    store: RunStore,
    device: str = "auto",
    watcher: Watcher | None = None,
    *,
    threads: int | None = None,
    deterministic: bool | None = None,
    sinks: Sequence[str] = (),
) -> RunResult:
    """Train and evaluate what the store does not hold yet. Runs with equal train_key train once.

    device: auto, cpu or cuda. watcher: progress on standard error if None. threads: inside torch's operators, as torch
    is set if None; sums depend on it in their last bits. deterministic: choose kernels that repeat bit by bit; if None,
    on the CPU only, where they cost nothing. A second process with the same run waits for the first and then finds its
    work done; but the processes of a team (`vislab.engine.team`), which all call this, share the work.
    sinks: names out of `log_sinks.SINKS`, which are told the numbers as they come.
    """
    watcher, team = watcher or TerminalWatcher(), current_team()
    target = team.device(resolve_device(device))
    deterministic = target.type == "cpu" if deterministic is None else deterministic
    with torch_threads(threads), deterministic_algorithms(deterministic):
        trained = _ensure_trained(run, store, target, watcher, sinks)
        evaluated = _ensure_evaluated(run, store, target, watcher, sinks)
    record = team.agree(lambda: store.result(run.train_key, run.eval_key))
    assert record is not None
    folder = store.eval_dir(run.train_key, run.eval_key)
    return RunResult(run.train_key, run.eval_key, folder, record, trained, evaluated)


def load_trained(run: RunConfig, store: RunStore, device: torch.device) -> nn.Module:
    """The model of a finished training run, in evaluation mode."""
    model = run.model.build()
    model.load_state_dict(load_file(store.train_dir(run.train_key) / "weights.safetensors"))
    return model.to(device).eval()


def count_parameters(model: nn.Module) -> int:
    """Unique parameters, frozen ones included, buffers not."""
    return sum(parameter.numel() for parameter in model.parameters())


def _ensure_trained(
    run: RunConfig, store: RunStore, device: torch.device, watcher: Watcher, sinks: Sequence[str]
) -> bool:
    folder, team = store.train_dir(run.train_key), current_team()
    dataset = load_dataset(run.data, "train")
    _check_classes(run, dataset)
    waiting = lambda lock: watcher.notice(f"{lock}: another process trains this run; waiting for it")  # noqa: E731
    with team.exclusive(folder, waiting):
        record = team.agree(lambda: store.trained(run.train_key))
        if record is not None:
            _check_fingerprint(record, dataset, folder)
            return False
        if team.leads:
            remove_leftovers(folder)
            write_json(folder / "config.json", to_dict(run))
            write_json(folder / "env.json", _environment(device))
        logged = Logged(folder, run.train_key, run.train_key, to_dict(run))
        with open_sinks(sinks if team.leads else (), logged, watcher.notice) as sink:
            record = _train(run, dataset, folder, device, watcher, sink)
        if team.leads:
            write_json(folder / "trained.json", record)
            delete_checkpoints(folder)
    return True


def _train(
    run: RunConfig, dataset: VideoDataset, folder: Path, device: torch.device, watcher: Watcher, sink: Sink
) -> dict[str, Any]:
    """Train to the end and write the weights. Returns the record for trained.json, in the first process of a team."""
    seed_torch(run.seed, "initial weights")
    model, criterion = run.model.build(), run.criterion.build()
    warm = None if run.init is None else warm_start(model, run.init)
    model, criterion = model.to(device), criterion.to(device)
    state = TrainingState(model, criterion, build_optimizer(model, criterion, run.train))

    def load_batch(part: MicroBatch) -> Batch:
        return training_batch(
            dataset, run.sampling, batch_size=part.size, seed=run.seed, step=part.step, first_sample=part.first_clip
        )

    elapsed = train(
        state, load_batch, run.train, seed=run.seed, folder=folder, device=device, watcher=watcher, sink=sink
    )
    team = current_team()
    peak = max(team.gathered(elapsed.peak_memory_bytes))
    if not team.leads:
        return {}
    weights = folder / "weights.safetensors"
    save_tensors(weights, {name: value.cpu().contiguous() for name, value in model.state_dict().items()})
    return {
        "train_key": run.train_key,
        "steps": elapsed.step,
        "train_seconds": elapsed.seconds,
        "peak_memory_bytes": peak,
        "parameters": count_parameters(model),
        "weights_sha256": file_sha256(weights),
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint(),
        "warm_start": None if warm is None else asdict(warm),
    }


def _ensure_evaluated(
    run: RunConfig, store: RunStore, device: torch.device, watcher: Watcher, sinks: Sequence[str]
) -> bool:
    folder, team = store.eval_dir(run.train_key, run.eval_key), current_team()
    dataset = load_dataset(run.evaluation.data, run.evaluation.split)
    waiting = lambda lock: watcher.notice(f"{lock}: another process evaluates this run; waiting for it")  # noqa: E731
    with team.exclusive(folder, waiting):
        record = team.agree(lambda: store.result(run.train_key, run.eval_key))
        if record is not None:
            _check_fingerprint(record, dataset, folder)
            return False
        if team.leads:
            remove_leftovers(folder)
            write_json(folder / "config.json", to_dict(run.evaluation))
        model = load_trained(run, store, device)
        found = evaluate_model(model, dataset, run.evaluation, folder=folder, device=device, watcher=watcher)
        if team.leads:
            write_json(folder / "result.json", _result(run, store, dataset, found, device))
            logged = Logged(folder, f"{run.train_key}-{run.eval_key}", run.train_key, to_dict(run))
            with open_sinks(sinks, logged, watcher.notice) as sink:
                sink.write(run.train.steps, flat_numbers(found["metrics"]))
    return True


def _result(
    run: RunConfig, store: RunStore, dataset: VideoDataset, found: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """The record for result.json: what was measured, on what, at which cost."""
    trained = store.trained(run.train_key)
    assert trained is not None
    return {
        "train_key": run.train_key,
        "eval_key": run.eval_key,
        "scale": run.scale,
        "seed": run.seed,
        **found,
        "steps": trained["steps"],
        "train_seconds": trained["train_seconds"],
        "peak_memory_bytes": max(found["peak_memory_bytes"], trained["peak_memory_bytes"]),
        "parameters": trained["parameters"],
        "train_data": trained["data"],
        "train_data_fingerprint": trained["data_fingerprint"],
        "data": dataset.name,
        "data_fingerprint": dataset.fingerprint(),
        "env": _environment(device),
    }


def _check_classes(run: RunConfig, dataset: VideoDataset) -> None:
    if len(dataset.categories) > run.model.num_classes:
        raise UserError(
            f"model.num_classes is {run.model.num_classes}, expected at least {len(dataset.categories)}, "
            f"the number of categories of {dataset.name}"
        )


def _check_fingerprint(record: dict[str, Any], dataset: VideoDataset, folder: Path) -> None:
    """A finished run stands for the data it was made from; with other data under the same name it would lie."""
    if record["data_fingerprint"] != dataset.fingerprint():
        raise UserError(
            f"{folder}: made from data with fingerprint {record['data_fingerprint']}, but {dataset.name} now has "
            f"{dataset.fingerprint()}; remove the folder or restore the data"
        )


def _environment(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return environment(device=name, threads=torch.get_num_threads(), processes=current_team().size)
