"""From tables to runs: rows x data sets x seeds, with equal effective configurations run once."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vislab.data import DatasetConfig, load_dataset
from vislab.engine.config import InitialWeights, RunConfig
from vislab.errors import UserError
from vislab.models.presets import with_num_classes
from vislab.records import RunStore
from vislab.study.declare import Paper, Pretraining, Reading, Row, Table, apply_changes


@dataclass(frozen=True)
class PlannedRun:
    """One row on one data set (its label) with one seed, and the run that fills it.

    columns: column -> metric that fills it, in tables with several evaluations of a row; otherwise every column is
    filled by its own name.
    """

    row: Row
    dataset: str
    seed: int
    config: RunConfig
    train_key: str
    eval_key: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Runs that share one training; one worker does them in order. label, dataset and seed are of their first use.

    pause_at: training step after which to stop, measure the checkpoint and go no further, None for all of it.
    tracking: families of tracking metrics (`engine.evaluate.Untracked`) to measure as well. sinks: names out of
    `engine.log_sinks.SINKS`, told the numbers as they come.
    """

    train_key: str
    label: str
    dataset: str
    seed: int
    runs: tuple[RunConfig, ...]
    pause_at: int | None = None
    tracking: tuple[str, ...] = ()
    sinks: tuple[str, ...] = ()

    def keys(self, run: int) -> tuple[str, str]:
        """(train_key, eval_key) of the run with this index."""
        return self.train_key, self.runs[run].eval_key


def plan_table(
    paper: Paper, table: Table, scale: str, *, seeds: int, datasets: Sequence[str] | None = None
) -> list[PlannedRun]:
    """Every run that the table is made of at this scale, in the order of rows, then data sets, then seeds.

    datasets: replace the declared ones. Rows that are not the paper's own, or unavailable at the scale, have no runs.
    Raises UserError for a data set that does not load, and where the weights that the rows start from are missing.
    """
    planned = []
    for row in table.rows:
        if not row.runs_at(scale):
            continue
        initial = initial_weights(paper, scale, row.pretraining)
        base = paper.configuration(table, row, scale)
        for dataset in datasets or table.datasets:
            if not table.concerns(row, dataset):
                continue
            placed = on_dataset(base, dataset)
            for seed in range(seeds):
                run = replace(placed, seed=seed, init=_start(initial, row))
                for changes, columns in evaluations(table):
                    config = apply_changes(run, changes, scale)
                    keys = config.train_key, config.eval_key
                    planned.append(PlannedRun(row, dataset_label(dataset), seed, config, *keys, columns))
    return planned


def evaluations(table: Table) -> list[tuple[Mapping[str, Any], Mapping[str, str]]]:
    """The evaluations that each row needs, its own first: their changes, and `PlannedRun.columns`."""
    if not table.readings:
        return [({}, {})]
    found: list[tuple[Mapping[str, Any], dict[str, str]]] = []
    for name in (*table.columns, *table.extra):
        reading = table.readings.get(name, Reading(name))
        if name in table.static:
            continue
        columns = next((columns for changes, columns in found if changes == reading.changes), None)
        if columns is None:
            columns = {}
            found.append((reading.changes, columns))
        columns[name] = reading.metric
    return sorted(found, key=lambda evaluation: len(evaluation[0]))


def initial_weights(paper: Paper, scale: str, pretraining: Pretraining | None = None) -> InitialWeights | None:
    """What the rows of a scale start from, None where they start afresh: the weights of `pretraining`, or else the
    paper's. Raises UserError if the file is missing."""
    pretraining = pretraining or paper.pretraining
    phases = pretraining.phases(scale) if pretraining is not None else []
    if not phases:
        return None
    path = phases[-1].weights(scale)
    if not path.exists():
        raise UserError(f"{path}: the pre-trained weights of scale {scale} are missing; {_remedy(paper, scale)}")
    return InitialWeights.of(path)


def _remedy(paper: Paper, scale: str) -> str:
    if scale == "paper":
        return "put them there: a state dict of the model after COCO as safetensors, such as load_official makes"
    return f"make them with: reproduce_table.py {paper.key} --pretrain --scale {scale}"


def _start(initial: InitialWeights | None, row: Row) -> InitialWeights | None:
    return None if initial is None else replace(initial, without=row.fresh)


def dataset_label(name: str) -> str:
    """How reports call a data set: a preset by its name, a path by its last part, so that no report names a machine."""
    return name if name.startswith("synthetic") else Path(name).name or name


def on_dataset(config: RunConfig, name: str) -> RunConfig:
    """The run on another data set, by preset name or path; the model gets as many classes as the data set has.

    Size, length and number of videos that the scale asks for are kept for synthetic presets; real data is as it is.
    """
    train, valid = (_named(dataset, name) for dataset in (config.data, config.evaluation.data))
    return replace(
        config,
        model=with_num_classes(config.model, _num_categories(train)),
        data=train,
        evaluation=replace(config.evaluation, data=valid),
    )


def jobs(planned: Iterable[PlannedRun], store: RunStore, sinks: tuple[str, ...] = ()) -> list[Job]:
    """What is left to do: every unfinished run once, those of one training together. sinks: see `Job`."""
    by_training: dict[str, dict[str, PlannedRun]] = {}
    for run in planned:
        if store.result(run.train_key, run.eval_key) is None:
            by_training.setdefault(run.train_key, {}).setdefault(run.eval_key, run)
    return [_job(train_key, list(runs.values()), sinks) for train_key, runs in by_training.items()]


def _job(train_key: str, runs: Sequence[PlannedRun], sinks: tuple[str, ...]) -> Job:
    first = runs[0]
    configs = tuple(run.config for run in runs)
    return Job(train_key, first.row.label, first.dataset, first.seed, configs, sinks=sinks)


def _named(dataset: DatasetConfig, name: str) -> DatasetConfig:
    return replace(dataset, name=name) if name.startswith("synthetic") else DatasetConfig(name)


@functools.cache
def _num_categories(dataset: DatasetConfig) -> int:
    return len(load_dataset(dataset, "train").categories)
