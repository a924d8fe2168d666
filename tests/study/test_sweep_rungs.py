"""Runs that pause at a checkpoint, are measured there, and go on as if they had not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import base

from vislab.engine import Silent, execute
from vislab.engine.config import RunConfig
from vislab.records import RunStore
from vislab.study.sweep_rungs import measure_at, rung_path, rungs
from vislab.study.sweep_tracking import track, untracked


class Steps(Silent):
    """Remembers which steps were trained."""

    def __init__(self) -> None:
        self.trained: list[int] = []

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        self.trained += [step] * (stage == "train")


def run() -> RunConfig:
    return base(steps=4, checkpoint_every=2, log_every=1)


def weights(store: RunStore) -> str:
    return hashlib.sha256((store.train_dir(run().train_key) / "weights.safetensors").read_bytes()).hexdigest()


def metrics(store: RunStore) -> Any:
    result = store.result(run().train_key, run().eval_key)
    assert result is not None
    return result["metrics"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run that never paused."""
    store = RunStore(tmp_path_factory.mktemp("whole"))
    execute(run(), store, "cpu", Silent(), threads=1)
    return store


def test_a_paused_run_ends_bit_by_bit_like_one_that_was_not(tmp_path: Path, whole: RunStore) -> None:
    store, steps = RunStore(tmp_path), Steps()
    value = measure_at(2, run(), store, "cpu", steps, threads=1)
    assert value is not None and 0 <= value <= 1 and steps.trained == [1, 2]
    assert store.trained(run().train_key) is None
    assert json.loads(rung_path(store, run(), 2).read_text()) == {"AP": value}
    assert measure_at(2, run(), store, "cpu", steps, threads=1) == value and steps.trained == [1, 2]  # once
    execute(run(), store, "cpu", steps, threads=1)
    assert steps.trained == [1, 2, 3, 4]
    assert weights(store) == weights(whole) and metrics(store) == metrics(whole)


def test_a_rung_whose_measuring_was_cut_short_is_measured_from_its_checkpoint(tmp_path: Path) -> None:
    store, steps = RunStore(tmp_path), Steps()
    value = measure_at(2, run(), store, "cpu", steps, threads=1)
    rung_path(store, run(), 2).unlink()
    assert measure_at(2, run(), store, "cpu", steps, threads=1) == value and steps.trained == [1, 2]


def test_a_run_beyond_its_rung_is_finished_instead(whole: RunStore) -> None:
    steps = Steps()
    assert measure_at(2, run(), whole, "cpu", steps, threads=1) is None
    assert steps.trained == [] and not rung_path(whole, run(), 2).exists()


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(160, 100, (100,)), (3000, 500, (500, 1500, 2000)), (60, 500, ()), (100, 25, (25, 50, 75)), (2, 1, (1,))],
)
def test_rungs_are_checkpoints_that_the_run_writes_anyway(steps: int, every: int, expected: tuple[int, ...]) -> None:
    assert rungs(replace(run().train, steps=steps, checkpoint_every=every)) == expected


def test_tracking_is_measured_where_it_is_missing(whole: RunStore) -> None:
    families = ("mot", "hota")
    assert untracked(run(), whole, families) == families
    track(run(), whole, ("mot",), Silent())
    assert untracked(run(), whole, families) == ("hota",)
    track(run(), whole, families, Silent())
    assert untracked(run(), whole, families) == ()
