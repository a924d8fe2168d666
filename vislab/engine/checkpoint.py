"""Training state on disk: safetensors plus JSON, written whole, verified on reading, the last two kept.

A checkpoint is complete once its JSON exists; the JSON holds the SHA-256 of the tensors beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vislab.engine.config import file_sha256
from vislab.engine.team import Team
from vislab.errors import UserError
from vislab.records import atomic_path, write_json

KEPT = 2


@dataclass(frozen=True)
class Elapsed:
    """How far a run has come."""

    step: int = 0  # optimiser steps done
    seconds: float = 0.0  # spent on them, all sessions together
    peak_memory_bytes: int = 0  # largest of all sessions


@dataclass
class TrainingState:
    """Everything that changes during training and cannot be derived from the step."""

    model: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer

    def tensors(self) -> dict[str, Tensor]:
        """Copies on the CPU, by name; aliased entries are stored once per name."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"criterion.{name}": value for name, value in self.criterion.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict(_under("model.", tensors))
        self.criterion.load_state_dict(_under("criterion.", tensors))
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, entry = name.partition(".")
            entries.setdefault(int(index), {})[entry] = value
        self.optimizer.load_state_dict({"state": entries, "param_groups": self.optimizer.state_dict()["param_groups"]})


def save_checkpoint(folder: Path, state: TrainingState, elapsed: Elapsed) -> None:
    """Write checkpoint-<step>, then delete all but the last two."""
    tensors_path = _tensors_path(folder, elapsed)
    save_tensors(tensors_path, state.tensors())
    write_json(tensors_path.with_suffix(".json"), asdict(elapsed) | {"sha256": file_sha256(tensors_path)})
    for old in sorted(folder.glob("checkpoint-*.json"))[:-KEPT]:
        _delete(old)


def resume(folder: Path, state: TrainingState, team: Team, notice: Callable[[str], None]) -> Elapsed:
    """`load_checkpoint` in all processes, which may be more or fewer than those that wrote it: rank 0 says which."""
    elapsed = team.agree(lambda: load_checkpoint(folder, state, notice))
    if not team.leads and elapsed.step:
        state.load(load_file(_tensors_path(folder, elapsed)))
    return elapsed


def load_checkpoint(folder: Path, state: TrainingState, notice: Callable[[str], None]) -> Elapsed:
    """Restore the newest checkpoint that is whole; `notice` is told of each that is not, which is then deleted.

    Returns how far the run had come; step 0 and an untouched state if there is no checkpoint.
    """
    for path in sorted(folder.glob("checkpoint-*.json"), reverse=True):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            sha256 = record.pop("sha256")
            elapsed = Elapsed(**record)
            if file_sha256(path.with_suffix(".safetensors")) != sha256:
                raise ValueError("its tensors do not match their SHA-256")
        except (ValueError, KeyError, TypeError, UserError) as error:
            notice(f"{path}: damaged checkpoint ignored ({error})")
            _delete(path)
            continue
        state.load(load_file(path.with_suffix(".safetensors")))
        return elapsed
    return Elapsed()


def delete_checkpoints(folder: Path) -> None:
    """Remove all checkpoints, once the final weights stand."""
    for path in folder.glob("checkpoint-*"):
        path.unlink()


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors atomically; equal tensors give equal bytes (no metadata, whose order would vary)."""
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def _tensors_path(folder: Path, elapsed: Elapsed) -> Path:
    return folder / f"checkpoint-{elapsed.step:08d}.safetensors"


def _delete(record: Path) -> None:
    record.unlink()  # first: without it the tensors count for nothing
    record.with_suffix(".safetensors").unlink(missing_ok=True)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
