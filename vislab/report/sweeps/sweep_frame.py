"""The trials of a sweep as a tidy frame: a line for each, a column for each thing varied and each number measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

DECIMALS = 4  # of everything measured, so that equal results give equal bytes
ESTIMATE = ("std", "ci_low", "ci_high", "n")  # what a number comes with, besides its value


@dataclass(frozen=True)
class Quantity:
    """A number of a trial. name: as on the command line and in the frame. label: as on an axis, with its unit."""

    name: str
    label: str
    more_is_better: bool


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it stands. state: "complete", "pruned", "failed", "running" or "waiting". point: what was varied.

    measured: number's name -> value, std over seeds, ends of the 95 % interval, n seeds; None where undefined. runs:
    (train_key, eval_key) of each seed. note: why it failed, or was given up.
    """

    number: int
    state: str
    point: Mapping[str, Any]
    measured: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    runs: Sequence[Sequence[str]] = ()
    seconds: float | None = None
    note: str = ""


def sweep_frame(
    records: Sequence[TrialRecord], axes: Sequence[str], quantities: Sequence[Quantity], objectives: Sequence[str]
) -> pd.DataFrame:
    """trial, state, the axes, best; for each quantity that any trial has NAME, NAME_std, NAME_ci_low, NAME_ci_high and
    NAME_n; seconds, note, train_keys and eval_keys, separated by spaces.

    best: whether no other trial is at least as good by every objective and better by one.
    """
    known = [each for each in quantities if any(each.name in record.measured for record in records)]
    lines = [_line(record, axes, known) for record in records]
    names = [name for each in known for name in (each.name, *(f"{each.name}_{part}" for part in ESTIMATE))]
    order = ["trial", "state", *axes, "best", *names, "seconds", "note", "train_keys", "eval_keys"]
    frame = pd.DataFrame(lines, columns=order)
    frame[[*names, "seconds"]] = frame[[*names, "seconds"]].astype(float)
    wanted = {each.name: each.more_is_better for each in known if each.name in objectives}
    frame["best"] = best_trials(frame, wanted) if len(wanted) == len(objectives) else False
    return frame


def best_trials(frame: pd.DataFrame, objectives: Mapping[str, bool]) -> np.ndarray:
    """The Pareto front of the complete trials: (n,) bool. objectives: name -> whether more is better."""
    signs = np.array([1.0 if more else -1.0 for more in objectives.values()])
    values = frame[list(objectives)].to_numpy(float) * signs
    judged = (frame["state"] == "complete").to_numpy() & ~np.isnan(values).any(1)
    at_least = (values[:, None] >= values[None]).all(-1)  # [i, j]: i is nowhere worse than j
    better = (values[:, None] > values[None]).any(-1)
    beaten = (at_least & better & judged[:, None]).any(0)
    return judged & ~beaten


def _line(record: TrialRecord, axes: Sequence[str], quantities: Sequence[Quantity]) -> dict[str, Any]:
    line: dict[str, Any] = {"trial": record.number, "state": record.state}
    line |= {axis: "none" if record.point.get(axis, "") is None else record.point.get(axis) for axis in axes}
    for each in quantities:
        estimate = record.measured.get(each.name, {})
        line[each.name] = _rounded(estimate.get("value"))
        line |= {f"{each.name}_{part}": _rounded(estimate.get(part)) for part in ESTIMATE}
    line["seconds"] = _rounded(record.seconds, 1)
    line["note"] = record.note
    line["train_keys"] = " ".join(keys[0] for keys in record.runs)
    line["eval_keys"] = " ".join(keys[1] for keys in record.runs)
    return line


def _rounded(value: float | None, decimals: int = DECIMALS) -> float:
    return math.nan if value is None else round(float(value), decimals)
