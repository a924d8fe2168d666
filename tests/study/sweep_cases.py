"""A small sweep whose runs are done by sweep_worker.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, RunConfig, TrainConfig
from vislab.errors import UserError
from vislab.losses.criterion import CriterionConfig
from vislab.models.presets import taformer
from vislab.records import RunStore
from vislab.study.declare import Dimension
from vislab.study.launch import Outcome
from vislab.study.plan import Job
from vislab.study.sweep_queue import Rules, TrialQueue, open_queue
from vislab.study.sweep_run import Measured, Search, work_off
from vislab.study.sweep_space import Point, Space, parsed_space
from vislab.study.sweep_storage import open_storage

STUB = (sys.executable, str(Path(__file__).with_name("sweep_worker.py")))
DIMENSIONS = {
    "k_inter": Dimension("model.encoder.temporal.num_points", "1..4"),
    "queries": Dimension("model.num_queries", "5,10,15"),
    "top_k": Dimension("evaluation.top_k", "5,10"),
    "warmup": Dimension("train.warmup_steps", "0..3"),
}


def base(**train: Any) -> RunConfig:
    data = DatasetConfig("synthetic-ytvis19", num_videos=2, height=32, width=64, length=3, num_categories=8)
    return RunConfig(
        model=taformer("smoke"),
        criterion=CriterionConfig(),
        train=TrainConfig(**({"steps": 100, "batch_size": 1, "checkpoint_every": 25} | train)),
        data=data,
        sampling=SamplingConfig(clip_length=2),
        evaluation=EvalConfig(data),
        scale="smoke",
    )


def space(*over: str, **train: Any) -> Space:
    return parsed_space(over or ("k_inter", "queries"), DIMENSIONS, base(**train))


def rules(space: Space, sampler: str = "grid", **more: Any) -> Rules:
    settings: dict[str, Any] = {"pruner": "none", "directions": ("maximize",), "cells": space.cells() or ()} | more
    return Rules(space.axes, sampler, **settings)


def opened(url: str, rules: Rules, total: int, name: str = "sweep", **identity: Any) -> TrialQueue:
    return open_queue(open_storage(url), name, rules, total, {"space": "s"} | identity, url)


def search(store: RunStore, space: Space, **more: Any) -> Search:
    """Averages the AP that the stub wrote."""

    def measure(runs: Sequence[RunConfig]) -> Measured:
        results = [store.result(run.train_key, run.eval_key) for run in runs]
        if any(result is None for result in results):
            raise UserError("a run is missing")
        values = [100 * result["metrics"]["AP"] for result in results if result is not None]
        spread = {"std": None, "ci_low": None, "ci_high": None, "n": float(len(values))}
        return {"AP": {"value": sum(values) / len(values), **spread}}

    return Search(space, ("AP",), **({"seeds": 1, "measure": measure, "dataset": "data"} | more))


def swept(queue: TrialQueue, searched: Search, store: RunStore, parallel: int = 2) -> tuple[Outcome, Recorder]:
    display = Recorder()
    outcome = work_off(searched, queue, store, display, device="cpu", parallel=parallel, command=STUB)
    return outcome, display


def done(store: RunStore, word: str) -> list[str]:
    """Keys of what the stub did, in order."""
    path = store.root / "done.txt"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [line[1] for line in lines if line[0] == word]


@dataclass
class Recorder:
    """A display that remembers."""

    ends: dict[int, tuple[TrialState, str]] = field(default_factory=dict)
    points: dict[int, Point] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def looked(self, trials: Sequence[FrozenTrial]) -> None:
        pass

    def trial_started(self, number: int, point: Point) -> None:
        self.points[number] = point

    def trial_ended(self, number: int, state: TrialState, measured: Measured, note: str) -> None:
        self.ends[number] = state, note

    def started(self, job: Job) -> None:
        self.jobs.append(job)

    def progress(self, job: Job, event: dict[str, Any]) -> None:
        pass

    def notice(self, job: Job, text: str) -> None:
        self.notices.append(text)

    def failed(self, job: Job, sentence: str) -> None:
        pass

    def finished(self, job: Job, succeeded: bool) -> None:
        pass
