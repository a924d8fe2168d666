"""A worker for sweeps that trains nothing: speaks the protocol, and does with the store what a run would do.

Without torch, so that it starts at once. Each run takes SWEEP_SECONDS and has an AP that depends on its configuration;
every run that is done, or paused, adds a line to done.txt in the store. A value of 3 in train.warmup_steps fails.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

SECONDS = float(os.environ.get("SWEEP_SECONDS", "0"))


def send(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def accuracy(run: dict[str, Any]) -> float:
    """Best with K_inter 3; a little better with more queries, and with another seed."""
    points = run["model"]["encoder"]["temporal"]["num_points"] if run["model"]["encoder"]["temporal"] else 0
    return 0.3 + 0.02 * (4 - abs(points - 3)) + 0.001 * run["model"]["num_queries"] + 0.005 * run["seed"]


def write(path: Path, record: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record))
    temporary.rename(path)


def note(store: Path, *words: object) -> None:
    with (store / "done.txt").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def train(job: dict[str, Any], index: int, run: dict[str, Any]) -> dict[str, Any]:
    """As `execute` and `measure_at` leave it."""
    store, (train_key, eval_key) = Path(job["store"]), job["keys"][index]
    folder, evaluation = store / train_key, store / train_key / "eval" / eval_key
    evaluation.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if run["train"]["warmup_steps"] == 3:
            raise ValueError("the loss is not finite")
        step = job["pause_at"]
        if step is not None:
            rung = folder / "rungs" / f"{step:08d}-{eval_key}"
            rung.mkdir(parents=True, exist_ok=True)
            if not (rung / "rung.json").exists():
                time.sleep(SECONDS * step / run["train"]["steps"])
                write(rung / "rung.json", {"AP": accuracy(run) / 2})
                note(store, "paused", train_key, step)
            return {"step": step, "value": accuracy(run) / 2}
        if not (folder / "trained.json").exists():
            time.sleep(SECONDS)
            note(store, "trained", train_key)
            write(folder / "trained.json", {"train_key": train_key})
        if not (evaluation / "result.json").exists():
            note(store, "evaluated", eval_key)
            write(evaluation / "result.json", {"seed": run["seed"], "metrics": {"AP": accuracy(run)}})
    return {}


def work(job: dict[str, Any]) -> None:
    for index, run in enumerate(job["runs"]):
        send("progress", run=index, stage="train", step=1, total=2, loss=0.5)
        try:
            found = train(job, index, run)
        except ValueError as error:
            send("failed", run=index, error=str(error))
        else:
            send("done" if job["pause_at"] is None else "paused", run=index, **found)
    send("idle")


def main() -> None:
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            jobs.put(json.loads(line))
        os._exit(130)

    threading.Thread(target=read, daemon=True).start()
    while True:
        work(jobs.get())


if __name__ == "__main__":
    main()
