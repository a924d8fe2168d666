"""Sweeps with worker processes that train nothing: what is run, in which order, how often, and what is noted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sweep_cases import base, done, opened, rules, search, space, swept

from vislab.records import RunStore, write_json
from vislab.study import sweep_run
from vislab.study.sweep_queue import OUTCOME, TrialQueue
from vislab.study.sweep_space import Space


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    (tmp_path / "runs").mkdir()
    return RunStore(tmp_path / "runs")


def queue(tmp_path: Path, space: Space, total: int, sampler: str = "grid", **more: Any) -> TrialQueue:
    return opened(f"sqlite:///{tmp_path}/a.db", rules(space, sampler, **more), total)


def values(trials: TrialQueue) -> list[float]:
    return [trial.values[0] for trial in trials.trials()]


def test_a_grid_is_worked_off_and_its_seeds_averaged(tmp_path: Path, store: RunStore) -> None:
    grid = space("k_inter=2..4", "queries=10")
    trials = queue(tmp_path, grid, 3)
    outcome, display = swept(trials, search(store, grid, seeds=2), store)
    assert not outcome.failed and not outcome.interrupted
    assert values(trials) == pytest.approx([37.25, 39.25, 37.25])  # 30 + 2 (4 - |k - 3|) + 1, seeds 0.5 apart
    assert Counter(done(store, "trained")).keys() == {
        replace(grid.configure(cell), seed=seed).train_key for cell in grid.cells() or () for seed in (0, 1)
    }
    first = trials.trials()[0].user_attrs[OUTCOME]
    assert first["runs"] == [
        [run.train_key, run.eval_key]
        for run in (replace(grid.configure({"k_inter": 2, "queries": 10}), seed=seed) for seed in (0, 1))
    ]
    assert first["measured"]["AP"]["value"] == pytest.approx(37.25) and first["seconds"] >= 0
    assert [state for state, _ in display.ends.values()] == [TrialState.COMPLETE] * 3
    assert display.points[0] == {"k_inter": 2, "queries": 10}
    assert {job.label for job in display.jobs} >= {"k_inter 2, queries 10"}


def test_a_second_sweep_finds_the_runs_done_and_starts_no_worker(tmp_path: Path, store: RunStore) -> None:
    grid = space("k_inter=1..2", "queries=5")
    swept(queue(tmp_path, grid, 2), search(store, grid), store)
    again = opened(f"sqlite:///{tmp_path}/a.db", rules(grid), 2, name="other")
    _, display = swept(again, search(store, grid), store)
    assert display.jobs == [] and again.counts().complete == 2 and len(done(store, "trained")) == 2


def test_trials_that_differ_at_inference_share_their_training(tmp_path: Path, store: RunStore) -> None:
    grid = space("k_inter=1..2", "top_k=5,10")
    _, display = swept(queue(tmp_path, grid, 4), search(store, grid), store)
    assert len(done(store, "trained")) == 2 and len(done(store, "evaluated")) == 4
    assert not display.notices


def test_equal_points_of_a_sampler_are_one_run(tmp_path: Path, store: RunStore) -> None:
    small = space("k_inter=1..2")
    trials = queue(tmp_path, small, 8, "random")
    swept(trials, search(store, small), store)
    assert trials.counts().complete == 8 and len(done(store, "trained")) == 2


def test_failed_trials_are_noted_with_their_error_and_the_others_go_on(tmp_path: Path, store: RunStore) -> None:
    grid = space("warmup=2..3", "train.batch_size=2,4,train.micro_batch=2,4")
    trials = queue(tmp_path, grid, 8)
    _, display = swept(trials, search(store, grid), store)
    notes = {str(trial.params): trial.user_attrs[OUTCOME].get("note") for trial in trials.trials()}
    assert trials.counts().failed == 5 and trials.counts().complete == 3
    assert Counter(notes.values()) == {
        None: 3,
        "the loss is not finite": 3,
        "train.micro_batch is 4, expected a divisor of train.batch_size 2": 2,
    }
    assert len([state for state, note in display.ends.values() if state == TrialState.FAIL and note]) == 5


def test_numbers_that_cannot_be_had_fail_the_trial(tmp_path: Path, store: RunStore) -> None:
    grid = space("k_inter=1")
    trials = queue(tmp_path, grid, 1)

    def undefined(runs: Any) -> dict[str, Any]:
        return {"AP": {"value": None}}

    swept(trials, search(store, grid, measure=undefined), store)
    (trial,) = trials.trials()
    assert trial.state == TrialState.FAIL and trial.user_attrs[OUTCOME]["note"] == "AP is undefined on this data"


def test_what_needs_no_run_trains_nothing(tmp_path: Path, store: RunStore) -> None:
    grid = space("k_inter=1..2")
    trials = queue(tmp_path, grid, 2)

    def count(runs: Any) -> dict[str, Any]:
        return {"AP": {"value": float(runs[0].model.encoder.temporal.num_points)}}

    _, display = swept(trials, search(store, grid, measure=count, needs_runs=False), store)
    assert values(trials) == [1.0, 2.0] and not display.jobs


def test_a_pruned_trial_stops_at_a_rung(tmp_path: Path, store: RunStore) -> None:
    """Half of the AP at rungs: those that are worse than the median of the ones before end there."""
    ordered = space("k_inter=1..4", "queries=5,10")
    cells = sorted(ordered.cells() or (), key=lambda cell: -abs(int(str(cell["k_inter"])) - 3), reverse=True)
    trials = queue(tmp_path, ordered, 8, cells=cells, pruner="median", resources=(25, 200))
    searched = search(store, ordered, seeds=2, pruned=True)
    swept(trials, searched, store, parallel=1)
    counts = trials.counts()
    assert counts.pruned >= 1 and counts.complete + counts.pruned == 8
    pruned = [trial for trial in trials.trials() if trial.state == TrialState.PRUNED]
    for trial in pruned:
        last = max(trial.intermediate_values)
        assert "given up after" in trial.user_attrs[OUTCOME]["note"]
        keys = [run[0] for run in trial.user_attrs[OUTCOME]["runs"]]
        assert last < 200 and keys[1] not in done(store, "trained")  # the second seed was never run
    complete = next(trial for trial in trials.trials() if trial.state == TrialState.COMPLETE)
    assert list(complete.intermediate_values) == [25, 50, 75, 100]  # three rungs, and the first seed's end
    assert set(Counter(done(store, "trained")).values()) == {1}


def test_runs_that_tables_have_trained_have_no_rungs_any_more(tmp_path: Path, store: RunStore) -> None:
    grid = space("k_inter=1", "queries=5")
    (cell,) = grid.cells() or ()
    run = grid.configure(cell)
    write_json(store.train_dir(run.train_key) / "trained.json", {})
    trials = queue(tmp_path, grid, 1, pruner="median", resources=(25, 100))
    _, display = swept(trials, search(store, grid, pruned=True), store)
    assert [job.pause_at for job in display.jobs] == [None] and trials.counts().complete == 1


def test_a_worker_that_is_killed_is_replaced_and_its_run_tried_again(
    tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_SECONDS", "0.5")
    grid = space("k_inter=1..2", "queries=5")
    trials = queue(tmp_path, grid, 2)
    killed = threading.Thread(target=kill_first_worker, args=(1,), daemon=True)
    killed.start()
    _, display = swept(trials, search(store, grid), store, parallel=1)
    assert trials.counts().complete == 2 and len(display.notices) == 1
    assert "SIGKILL" in display.notices[0] and "tried again" in display.notices[0]


def test_a_run_that_kills_its_workers_fails_in_the_end(
    tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_SECONDS", "30")
    monkeypatch.setattr(sweep_run, "DEATHS_ALLOWED", 1)
    grid = space("k_inter=1", "queries=5")
    trials = queue(tmp_path, grid, 1)
    threading.Thread(target=kill_first_worker, args=(2,), daemon=True).start()
    swept(trials, search(store, grid), store, parallel=1)
    (trial,) = trials.trials()
    assert trial.state == TrialState.FAIL and "SIGKILL" in trial.user_attrs[OUTCOME]["note"]


def test_ctrl_c_gives_back_what_is_not_done(
    tmp_path: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch, heeds_ctrl_c: None
) -> None:
    grid = space("k_inter=1..3", "queries=5")
    trials = queue(tmp_path, grid, 3)
    searched = search(store, grid)
    monkeypatch.setenv("SWEEP_SECONDS", "30")

    def interrupt() -> None:
        workers_of_ours(2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    outcome, _ = swept(trials, searched, store)
    assert outcome.interrupted and trials.counts().running == 0 and trials.counts().waiting == 3
    monkeypatch.setenv("SWEEP_SECONDS", "0")
    outcome, _ = swept(queue(tmp_path, grid, 3), searched, store)
    assert not outcome.interrupted and trials.counts().complete == 3


def workers_of_ours(count: int, without: Collection[int] = ()) -> list[int]:
    """Wait for worker processes of this one that have begun to read; returns their ids."""
    for _ in range(2400):
        tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        children = [int(pid) for task in tasks for pid in task.read_text().split()]
        workers = [pid for pid in children if pid not in without and is_at_work(pid)]
        if len(workers) >= count:
            return workers
        time.sleep(0.05)
    raise AssertionError("waited for two minutes in vain")


def is_at_work(pid: int) -> bool:
    """Whether it is the stub and has started the thread that reads its jobs."""
    try:
        command, tasks = Path(f"/proc/{pid}/cmdline").read_bytes(), list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False
    return b"sweep_worker.py" in command and len(tasks) > 1


def kill_first_worker(times: int) -> None:
    """Once it is at work; and its successor, if more than once."""
    killed: set[int] = set()
    for _ in range(times):
        pid = workers_of_ours(1, killed)[0]
        time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)


def test_stages_of_a_pruned_trial() -> None:
    grid = space("k_inter=1")
    run = base(steps=100, checkpoint_every=40)
    runs = [replace(run, seed=seed) for seed in (0, 1, 2)]
    pruned = sweep_run._stages(runs, replace(search(RunStore(Path()), grid), pruned=True))
    assert [([leg.pause_at for leg in stage.legs], stage.spent) for stage in pruned] == [
        ([40], 40), ([80], 80), ([None], 100), ([None] * 2, 200), ([None] * 3, 300),
    ]  # fmt: skip
    (whole,) = sweep_run._stages(runs, search(RunStore(Path()), grid))
    assert len(whole.legs) == 3
