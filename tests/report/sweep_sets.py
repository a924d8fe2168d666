"""Sweeps made by hand."""

from __future__ import annotations

import itertools
from typing import Any

from vislab.report.sweeps.sweep_frame import Quantity, TrialRecord, sweep_frame
from vislab.report.sweeps.sweep_plots import Axis, Sweep

AP = Quantity("AP", "AP (%)", True)
GFLOPS = Quantity("GFLOPs", "GFLOPs per frame", False)
PARAMS = Quantity("params", "parameters (M)", False)
QUANTITIES = (AP, GFLOPS, PARAMS)


def estimate(value: float | None, spread: float | None = None) -> dict[str, float | None]:
    ends = (None, None) if spread is None or value is None else (value - spread, value + spread)
    return {"value": value, "std": spread, "ci_low": ends[0], "ci_high": ends[1], "n": 3.0}


def record(number: int, point: dict[str, Any], ap: float, gflops: float, state: str = "complete") -> TrialRecord:
    measured = {"AP": estimate(ap, 1.0), "GFLOPs": estimate(gflops)} if state == "complete" else {}
    return TrialRecord(number, state, point, measured, [("t" * 16, "e" * 16)], 12.34)


def grid(*more: TrialRecord) -> list[TrialRecord]:
    """K_inter costs more and helps up to 3; longer clips help and cost nothing."""
    cells = itertools.product((1, 2, 3, 4), (3, 5, 7))
    found = [
        record(number, {"k_inter": k, "clip_length": length}, 40 - (k - 3) ** 2 + length / 2, 0.2 + 0.01 * k)
        for number, (k, length) in enumerate(cells)
    ]
    return [*found, *more]


def sweep(records: list[TrialRecord], *axes: Axis, objectives: tuple[Quantity, ...] = (AP,), **more: Any) -> Sweep:
    axes = axes or (Axis("k_inter", "k_inter"), Axis("clip_length", "clip_length"))
    frame = sweep_frame(records, [axis.name for axis in axes], QUANTITIES, [each.name for each in objectives])
    return Sweep(frame, axes, QUANTITIES, objectives, **more)
