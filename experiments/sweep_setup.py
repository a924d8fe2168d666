"""From what a command line says to a sweep: its space, its rules, and the name that it goes by."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sweep_numbers import measurer, needs_runs, quantities, tracking_needed

from vislab.engine.config import RunConfig, TrainConfig
from vislab.errors import UserError
from vislab.records import RunStore
from vislab.report.sweeps.sweep_frame import Quantity
from vislab.study.declare import Dimension, Paper
from vislab.study.plan import dataset_label, initial_weights, on_dataset
from vislab.study.sweep_queue import TOTAL, Rules
from vislab.study.sweep_run import Search
from vislab.study.sweep_rungs import rungs
from vislab.study.sweep_space import Space, parsed_space
from vislab.study.sweep_values import place_of

AUTO = "auto"

# Of every paper whose configuration has them; a paper's own of the same name go first.
COMMON = {
    "lr": Dimension("train.learning_rate", "1e-4..1e-3:log"),
    "weight_decay": Dimension("train.weight_decay", "1e-5..1e-1:log"),
    "steps": Dimension("train.steps", ""),
    "batch_size": Dimension("train.batch_size", "1,2,4"),
    "clip_length": Dimension("sampling.clip_length", "3,5,7"),
    "clip_stride": Dimension("sampling.clip_stride", "1..4"),
    "num_queries": Dimension("model.num_queries", ""),
    "encoder_layers": Dimension("model.encoder.num_layers", ""),
    "decoder_layers": Dimension("model.decoder.num_layers", ""),
    "top_k": Dimension("evaluation.top_k", "5,10,20"),
    "mask_threshold": Dimension("evaluation.mask_threshold", "0.3..0.7"),
}


@dataclass(frozen=True)
class Wish:
    """What a sweep is asked to be. sampler: one of `SAMPLERS`, or auto. trials: None for all cells of a grid."""

    over: tuple[str, ...]
    objectives: tuple[str, ...]
    scale: str
    dataset: str
    seeds: int
    sampler: str
    pruner: str
    trials: int | None


@dataclass(frozen=True)
class Setup:
    """A sweep, ready to be opened. name: of its folder; study: what it is called in the storage."""

    paper: Paper
    wish: Wish
    name: str
    space: Space
    objectives: tuple[Quantity, ...]
    rules: Rules
    total: int

    @property
    def study(self) -> str:
        return study_name(self.paper, self.wish, self.name)

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two sweeps the same; trials of different ones cannot be compared. The last entry says that the
        code's own settings have changed."""
        return {
            "space": self.space.describe(),
            "objectives": [each.name for each in self.objectives],
            "data set": dataset_label(self.wish.dataset),
            "seeds": self.wish.seeds,
            "sampler": self.rules.sampler,
            "pruner": self.rules.pruner,
            "over": list(self.wish.over),
            "data": self.wish.dataset,
            "base configuration": self.space.base.eval_key,
        }

    def search(self, store: RunStore, sinks: tuple[str, ...] = ()) -> Search:
        """sinks: see `Job`."""
        return Search(
            space=self.space,
            objectives=tuple(each.name for each in self.objectives),
            seeds=self.wish.seeds,
            measure=measurer(self.objectives, store),
            tracking=tracking_needed(self.objectives),
            needs_runs=needs_runs(self.objectives),
            pruned=self.rules.pruner != "none",
            dataset=dataset_label(self.wish.dataset),
            sinks=sinks,
        )


def study_name(paper: Paper, wish: Wish, name: str) -> str:
    return f"{paper.key}/{wish.scale}/{name}"


def stored_wish(wish: Wish, identity: Mapping[str, Any] | None, name: str, where: str) -> Wish:
    """The wish that a sweep was made with, `trials` and scale as asked for now. Raises UserError if there is none."""
    if not identity:
        raise UserError(f"--over is missing, and {where} has no sweep --name {name} of this paper and scale")
    return replace(
        wish,
        over=tuple(identity["over"]),
        objectives=tuple(identity["objectives"]),
        dataset=identity["data"],
        seeds=identity["seeds"],
        sampler=identity["sampler"],
        pruner=identity["pruner"],
    )


def dimensions(paper: Paper, base: RunConfig) -> dict[str, Dimension]:
    """Everything that can be varied by a short name."""
    known = COMMON | dict(paper.sweeps.dimensions)
    return {name: dimension for name, dimension in known.items() if _exists(base, dimension.path)}


def base_run(paper: Paper, scale: str, dataset: str) -> RunConfig:
    """What the axes of a sweep change: the paper's full model, as the rows of its tables start from it."""
    initial = initial_weights(paper, scale)
    start = None if initial is None else replace(initial, without=paper.sweeps.fresh)
    return on_dataset(replace(paper.base(scale), init=start), dataset)


def default_dataset(paper: Paper) -> str:
    return paper.sweeps.dataset or paper.tables[0].datasets[0]


def set_up(paper: Paper, wish: Wish, name: str | None, identity_of: Callable[[str], Mapping[str, Any] | None]) -> Setup:
    """identity_of: what the storage says of a sweep by its name there; it decides what `auto` stands for, and how many
    trials there are where nobody says. Raises UserError for whatever cannot be meant.
    """
    base = base_run(paper, wish.scale, wish.dataset)
    space = parsed_space(wish.over, dimensions(paper, base), base)
    objectives = quantities(wish.objectives)
    cells = space.cells()
    name = name or default_name(space)
    known = identity_of(study_name(paper, wish, name))
    sampler = _sampler(wish, space, None if cells is None else len(cells), known)
    total = wish.trials or (known or {}).get(TOTAL)
    if sampler == "grid" and cells is not None:
        total = min(wish.trials or len(cells), len(cells))
    if total is None:
        raise UserError("--trials is missing: say how many to try, as this is no grid")
    train = _first_run(space).train
    _check_pruner(wish, objectives, train)
    directions: tuple[Literal["minimize", "maximize"], ...] = tuple(
        "maximize" if each.more_is_better else "minimize" for each in objectives
    )
    first = (*rungs(train), train.steps)[0]
    resources = max(1, first), max(1, first, wish.seeds * train.steps)
    rules = Rules(space.axes, sampler, wish.pruner, directions, cells if sampler == "grid" and cells else (), resources)
    return Setup(paper, wish, name, space, objectives, rules, total)


def default_name(space: Space) -> str:
    return "-".join(axis.name for axis in space.axes)


def checked_name(name: str) -> str:
    """A name is a folder's, too."""
    if not re.fullmatch(r"[\w+=-][\w.+=-]*", name):
        raise UserError(f"--name is {name!r}, expected letters, digits and any of _ . + = -")
    return name


def _sampler(wish: Wish, space: Space, cells: int | None, known: Mapping[str, Any] | None) -> str:
    if wish.sampler == "grid" and cells is None:
        endless = next(axis.name for axis in space.axes if axis.values.listed() is None)
        raise UserError(
            f"--sampler grid: {endless} has no finite number of values; give some, as in {endless}=LOW..HIGH:5"
        )
    if wish.sampler != AUTO:
        return wish.sampler
    if known:
        return str(known["sampler"])
    return "grid" if cells is not None and (wish.trials is None or wish.trials >= cells) else "tpe"


def _check_pruner(wish: Wish, objectives: Sequence[Quantity], train: TrainConfig) -> None:
    if wish.pruner == "none":
        return
    if [each.name for each in objectives] != ["AP"]:
        names = ",".join(each.name for each in objectives)
        raise UserError(f"--pruner {wish.pruner} judges by AP alone, but --objectives is {names}")
    if wish.seeds == 1 and not rungs(train):
        raise UserError(
            f"--pruner {wish.pruner} has nothing to judge by: there is one seed and no checkpoint before the last step "
            f"(train.checkpoint_every is {train.checkpoint_every}, train.steps {train.steps}); use --seeds 2"
        )


def _first_run(space: Space) -> RunConfig:
    """A run of the sweep; its schedule is that of all, unless the schedule is varied."""
    try:
        return space.configure({axis.name: axis.values.ends()[0] for axis in space.axes})
    except UserError:
        return space.base


def _exists(base: RunConfig, path: str) -> bool:
    try:
        place_of(base, path)
    except UserError:
        return False
    return True
