"""What the machinery of a sweep costs: a hundred trials whose runs do nothing. Printed, not judged: machines differ."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from postgres_server import postgres_server
from sweep_cases import done, opened, rules, search, space, swept

from vislab.records import RunStore

TRIALS = 100


def sweep(folder: Path, url: str, sampler: str) -> None:
    """Prints the seconds that each trial takes; counts that nothing was left out."""
    store = RunStore(folder / "runs")
    store.root.mkdir()
    searched = space("k_inter=1..4", "train.learning_rate=1e-4..1e-3:log", "top_k")
    trials = opened(url, rules(searched, sampler, cells=()), TRIALS)
    begun = time.perf_counter()
    swept(trials, search(store, searched), store)
    seconds = time.perf_counter() - begun
    print(f"{TRIALS} trials that do nothing ({sampler}, {url.partition(':')[0]}): {seconds:.1f} s")
    assert trials.counts().complete == TRIALS and len(done(store, "evaluated")) == TRIALS


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_sqlite(tmp_path: Path, sampler: str) -> None:
    sweep(tmp_path, f"sqlite:///{tmp_path}/sweeps.db", sampler)


@pytest.mark.slow
def test_postgresql(tmp_path: Path) -> None:
    with postgres_server() as url:
        sweep(tmp_path, url, "tpe")
