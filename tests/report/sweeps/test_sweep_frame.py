"""The frame of a sweep, and its Pareto front against a plain definition."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from sweep_sets import AP, GFLOPS, QUANTITIES, grid, record, sweep

from vislab.report.sweeps.sweep_frame import TrialRecord, best_trials, sweep_frame


def test_a_line_for_each_trial() -> None:
    failed = TrialRecord(12, "failed", {"k_inter": 9}, note="it broke")
    frame = sweep(grid(failed)).frame
    assert list(frame["trial"]) == list(range(13)) and list(frame.columns[:5]) == [
        "trial", "state", "k_inter", "clip_length", "best",
    ]  # fmt: skip
    first, last = frame.iloc[0], frame.iloc[12]
    parts = ("AP", "AP_std", "AP_ci_low", "AP_ci_high", "AP_n")
    assert [first[part] for part in parts] == [37.5, 1, 36.5, 38.5, 3]
    assert (first["seconds"], first["train_keys"], first["eval_keys"]) == (12.3, "t" * 16, "e" * 16)
    assert last["state"] == "failed" and last["note"] == "it broke" and math.isnan(last["AP"]) and not last["best"]
    assert "params" not in frame  # no trial has it


def test_the_best_trial_and_the_pareto_front() -> None:
    one = sweep(grid()).frame
    assert list(one.loc[one["best"], "trial"]) == [8]
    two = sweep(grid(), objectives=(AP, GFLOPS)).frame
    assert list(two.loc[two["best"], "trial"]) == [2, 5, 8]  # the longest clips, K_inter 1 to 3


def test_pareto_front_is_what_nobody_beats() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"state": "complete", "AP": rng.integers(0, 6, 80), "GFLOPs": rng.integers(0, 6, 80)})
    frame.loc[5, "state"] = "pruned"
    frame["AP"] = frame["AP"].astype(float)
    frame.loc[6, "AP"] = math.nan
    found = best_trials(frame, {"AP": True, "GFLOPs": False})
    for index, trial in frame.iterrows():
        usable = trial["state"] == "complete" and trial["AP"] == trial["AP"]
        beaten = any(
            other["state"] == "complete"
            and other["AP"] >= trial["AP"]
            and other["GFLOPs"] <= trial["GFLOPs"]
            and (other["AP"], other["GFLOPs"]) != (trial["AP"], trial["GFLOPs"])
            for _, other in frame.iterrows()
        )
        assert found[index] == (usable and not beaten)


def test_nothing_measured_yet() -> None:
    waiting = [TrialRecord(0, "waiting", {}), record(1, {"k_inter": 1}, 0, 0, "running")]
    frame = sweep_frame(waiting, ["k_inter"], QUANTITIES, ["AP"])
    assert not frame["best"].any() and "AP" not in frame
    assert len(sweep_frame([], ["k_inter"], QUANTITIES, ["AP"])) == 0
