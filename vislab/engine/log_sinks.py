"""Where a run's numbers go besides the run store, for whoever watches them elsewhere: TensorBoard, Weights & Biases.

The store has everything in any case (metrics.jsonl, result.json). A sink only listens: it is no part of a run's key, it
touches no random numbers, and a run whose sink breaks goes on without it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vislab.errors import UserError


class Sink(Protocol):
    """Takes numbers as they come."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers by name, after a training step; names have slashes between their parts."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Logged:
    """A training or an evaluation as sinks know it: its folder in the store, its key, its configuration in canonical
    form. training: the key of the training that it is, or is about."""

    folder: Path
    key: str
    training: str
    config: Mapping[str, Any]


class TensorBoardSink:
    """Event files in the folder, under tensorboard/: `tensorboard --logdir runs` shows all runs."""

    def __init__(self, logged: Logged, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(logged.folder / "tensorboard"), purge_step=first_step)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbSink:
    """A run of Weights & Biases, under wandb/ in the folder. Nothing is sent unless WANDB_MODE is online:
    `wandb sync` sends what was kept. WANDB_PROJECT and the like are heeded."""

    def __init__(self, logged: Logged, first_step: int) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "vislab"), id=logged.key, name=logged.key, group=logged.training,
            job_type="training" if logged.key == logged.training else "evaluation", dir=logged.folder,
            config=dict(logged.config), mode=mode, resume="allow" if mode == "online" else None,
            settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({"step": step, **numbers})

    def close(self) -> None:
        self._run.finish()


# By package. The first step that will be written counts anew, with all after it: a killed process may have been there.
SINKS: dict[str, Callable[[Logged, int], Sink]] = {"tensorboard": TensorBoardSink, "wandb": WandbSink}


def checked_sinks(text: str) -> tuple[str, ...]:
    """Names from "tensorboard,wandb". Raises UserError for one that there is not, or whose package is missing."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in SINKS:
            raise UserError(f"--log: there is no {name!r}; expected any of {', '.join(SINKS)}")
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a mere folder of that name, as wandb itself leaves behind
            raise UserError(f"--log {name} needs the package {name}: pip install -e '.[{name}]'")
    return names


class Sinks:
    """Several as one, opened by the first numbers. One that raises is told nothing more; the run goes on."""

    def __init__(self, names: Sequence[str], logged: Logged, notice: Callable[[str], None]) -> None:
        self._logged, self._notice = logged, notice
        self._names = list(names)
        self._open: dict[str, Sink] = {}

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name in list(self._names):
            with self._kept_from_harm(name):
                if name not in self._open:
                    self._open[name] = SINKS[name](self._logged, step)
                self._open[name].write(step, numbers)

    def close(self) -> None:
        for name, sink in list(self._open.items()):
            with self._kept_from_harm(name):
                sink.close()

    @contextlib.contextmanager
    def _kept_from_harm(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            self._names.remove(name)
            self._notice(f"--log {name}: {type(error).__name__}: {error}; the run goes on without it")


@contextlib.contextmanager
def open_sinks(names: Sequence[str], logged: Logged, notice: Callable[[str], None]) -> Iterator[Sink]:
    """Sinks that are closed however the block ends. notice: told of one that breaks."""
    sinks = Sinks(names, logged, notice)
    try:
        yield sinks
    finally:
        sinks.close()


def flat_numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl: "losses/dice" for what lies inside of another entry."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in flat_numbers(value).items()}
        elif value is not None and name != "step":
            found[name] = value
    return found
