"""The numbers of a trial, from its runs and from its configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import devis
import pytest
import taformer
from sweep_launcher import finish_run
from sweep_numbers import gflops_per_frame, measurer, needs_runs, quantities, tracking_needed

from vislab.engine.config import RunConfig
from vislab.errors import UserError
from vislab.records import RunStore
from vislab.stitching.config import ClipInferenceConfig
from vislab.study.plan import Job, on_dataset


def job(run: RunConfig) -> Job:
    return Job(run.train_key, "row", "data", run.seed, (run,))


@pytest.fixture(scope="module")
def runs() -> list[RunConfig]:
    run = on_dataset(taformer.base("smoke"), "synthetic-ytvis19")
    return [replace(run, seed=seed) for seed in (0, 1)]


def test_numbers_of_runs_are_means_over_seeds(tmp_path: Path, runs: list[RunConfig]) -> None:
    store = RunStore(tmp_path)
    for run in runs:
        finish_run(store, job(run))
    found = measurer(quantities(["AP"]), store)(runs)
    assert set(found) == {"AP", "params", "latency", "memory", "GFLOPs"}
    assert found["params"] == {"value": 2.0000005, "std": pytest.approx(0.7e-6, rel=0.02), "n": 2.0} | dict.fromkeys(
        ("ci_low", "ci_high")
    )
    assert found["latency"]["value"] == pytest.approx(1000 * 1.6 / (4 * 4))  # four videos of four frames
    assert found["memory"]["value"] == 1.0
    ap = found["AP"]
    assert ap["value"] is not None and 0 < ap["value"] < 100 and ap["std"] == 0 and ap["n"] == 2
    assert ap["ci_low"] is not None and ap["ci_high"] is not None and ap["ci_low"] <= ap["value"] <= ap["ci_high"]


def test_a_missing_run_is_named(tmp_path: Path, runs: list[RunConfig]) -> None:
    store = RunStore(tmp_path)
    finish_run(store, job(runs[0]))
    with pytest.raises(UserError, match="lacks 1 of the trial's 2 runs"):
        measurer(quantities(["AP"]), store)(runs)


def test_static_numbers_need_no_runs(tmp_path: Path, runs: list[RunConfig]) -> None:
    static = quantities(["gflops", "PARAMS"])
    assert [each.name for each in static] == ["GFLOPs", "params"] and not needs_runs(static)
    found = measurer(static, RunStore(tmp_path))(runs)
    assert set(found) == {"GFLOPs", "params"}
    assert found["params"]["value"] == pytest.approx(taformer.static_values(runs[0])["params_unique_M"])


def test_objectives() -> None:
    both = quantities(["AP", "HOTA", "AP"])
    assert [each.name for each in both] == ["AP", "HOTA"] and needs_runs(both)
    assert tracking_needed(both) == ("hota",) and tracking_needed(quantities(["IDF1"])) == ("mot",)
    assert [each.more_is_better for each in quantities(["IDF1", "latency", "memory"])] == [True, False, False]
    with pytest.raises(UserError, match="there is no 'fps'"):
        quantities(["fps"])


def test_frames_that_clips_share_cost_twice() -> None:
    """Per frame of a long video: clips of 6 that start every 3 frames compute every frame twice."""
    run = on_dataset(devis.base("smoke"), "synthetic-ytvis19")

    def cost(stride: int) -> float:
        clips = ClipInferenceConfig(run.sampling.clip_length, stride)
        found = gflops_per_frame(replace(run, evaluation=replace(run.evaluation, clips=clips)))
        assert found is not None
        return found

    assert cost(3) == pytest.approx(2 * cost(6))


def test_frames_of_unknown_size_have_no_cost(runs: list[RunConfig]) -> None:
    evaluation = replace(runs[0].evaluation, short_side=None, data=replace(runs[0].data, height=None))
    assert gflops_per_frame(replace(runs[0], evaluation=evaluation)) is None
