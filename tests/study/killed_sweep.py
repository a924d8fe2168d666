"""A sweep whose processes are killed at random moments and started again. Run by test_sweep_kill.py.

    python killed_sweep.py FOLDER KILLS CELLS PAUSE URL [--real]

Two processes work on one grid, each with two workers; every PAUSE seconds, on average, a kill hits one of them or one
of their workers. Forks, so that torch is imported once. Prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from optuna.trial import TrialState
from sweep_cases import STUB, Recorder, base, opened, rules, search

from vislab.records import RunStore
from vislab.study import sweep_run
from vislab.study.declare import Dimension
from vislab.study.launch import WORKER
from vislab.study.sweep_queue import TrialQueue
from vislab.study.sweep_space import Space, parsed_space

PROCESSES, KILLS_BETWEEN_LOOKS = 2, 5


class Sweep:
    """One grid in one storage; every process that works on it opens it anew."""

    def __init__(self, folder: Path, cells: int, url: str, real: bool) -> None:
        self.store, self.url, self.real = RunStore(folder / "runs"), url, real
        dimensions = {
            "rate": Dimension("train.learning_rate", f"1e-4..1e-3:{cells // 2}"),
            "top_k": Dimension("evaluation.top_k", "5,10"),  # at inference: two cells share a training
        }
        settings = {"steps": 3, "checkpoint_every": 1, "log_every": 1} if real else {}
        self.space: Space = parsed_space(["rate", "top_k"], dimensions, base(**settings))
        self.total = len(self.space.cells() or ())
        self.store.root.mkdir(parents=True, exist_ok=True)

    def queue(self) -> TrialQueue:
        return opened(self.url, rules(self.space), self.total)

    def work(self) -> None:
        sweep_run.DEATHS_ALLOWED = 1000
        command = WORKER if self.real else STUB
        searched = search(self.store, self.space)
        sweep_run.work_off(searched, self.queue(), self.store, Recorder(), device="cpu", parallel=2, command=command)

    def completed(self) -> dict[int, list[float]]:
        return {trial.number: trial.values for trial in self.queue().trials() if trial.state == TrialState.COMPLETE}


def start(sweep: Sweep) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            sweep.work()
            code = 0
        finally:
            os._exit(code)
    return pid


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_one(pids: list[int], moments: random.Random) -> int | None:
    """Kill a process of the sweep, or a worker of it; returns its id if it was one of `pids`."""
    pid = moments.choice(pids)
    workers = children(pid)
    victim = moments.choice([pid, *workers])
    os.kill(victim, signal.SIGKILL)
    if victim != pid:
        return None
    os.waitpid(pid, 0)
    return pid


def main() -> None:
    folder, url = Path(sys.argv[1]), sys.argv[5]
    kills, cells, pause = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    sweep = Sweep(folder, cells, url, "--real" in sys.argv)
    moments = random.Random(0)
    sweep.queue()
    pids: list[int] = []
    killed = {"processes": 0, "workers": 0}
    seen: dict[int, list[float]] = {}
    while sum(killed.values()) < kills and len(seen) < cells:
        while len(pids) < PROCESSES:
            pids.append(start(sweep))
        time.sleep(moments.uniform(0, 2 * pause))
        for pid in list(pids):
            if os.waitpid(pid, os.WNOHANG)[0]:
                pids.remove(pid)  # nothing was left for it
        if pids:
            dead = kill_one(pids, moments)
            killed["processes" if dead else "workers"] += 1
            pids = [pid for pid in pids if pid != dead]
        if sum(killed.values()) % KILLS_BETWEEN_LOOKS == 0 or not pids:
            now = sweep.completed()
            assert now.items() >= seen.items(), f"completed trials were lost: {seen} became {now}"
            seen = now
    for pid in pids or [start(sweep)]:
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
    left = start(sweep)  # the same command once more: finds all done
    assert os.waitpid(left, 0)[1] == 0
    queue = sweep.queue()
    rows = queue.storage.get_all_trials(queue._id)
    print(json.dumps(killed | {
        "seen_before_the_end": len(seen),
        "states": [trial.state.name for trial in rows],
        "points": [trial.params for trial in queue.trials()],
        "cells": sweep.space.cells(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
