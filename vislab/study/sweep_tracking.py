"""Identities over time of a finished run, measured where it was run."""

from __future__ import annotations

from vislab.engine.config import RunConfig
from vislab.engine.evaluate import Untracked, add_tracking
from vislab.engine.progress import Watcher
from vislab.errors import UserError
from vislab.records import RunStore


def untracked(run: RunConfig, store: RunStore, families: tuple[str, ...]) -> tuple[str, ...]:
    """The families of tracking metrics that a run has not been measured in."""
    folder = store.eval_dir(run.train_key, run.eval_key)
    return tuple(family for family in families if not (folder / f"{family}.npz").exists())


def track(run: RunConfig, store: RunStore, families: tuple[str, ...], watcher: Watcher) -> None:
    """Measure what the run lacks of the families. Raises UserError where that cannot be done."""
    absent = untracked(run, store, families)
    folder = store.eval_dir(run.train_key, run.eval_key)
    refused = add_tracking([Untracked(run.evaluation, folder, absent)], watcher) if absent else {}
    for reason in refused.values():
        raise UserError(f"tracking not measured: {reason}")
