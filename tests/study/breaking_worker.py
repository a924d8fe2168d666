"""The real worker, but its second process breaks, depending on the run's seed and evaluation.

While evaluating with top_k 3 it raises, with 4 it is killed by SIGKILL. In step 1 of seed 2 it is killed.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import vislab.engine.run as engine_run
import vislab.engine.train as engine_train
from vislab.study import worker

SECOND = os.environ.get("RANK") == "1"
evaluate_model, train_step = engine_run.evaluate_model, engine_train.train_step


def mark() -> None:
    """When it is."""
    Path(os.environ["BREAKING_WORKER_MARK"]).touch()


def die() -> None:
    mark()
    os.kill(os.getpid(), signal.SIGKILL)


def breaking_evaluation(model: Any, dataset: Any, config: Any, **more: Any) -> Any:
    if SECOND and config.top_k == 3:
        raise ValueError("it broke")
    if SECOND and config.top_k == 4:
        die()
    return evaluate_model(model, dataset, config, **more)


def breaking_step(state: Any, batches: Any, config: Any, seed: int, step: int, *more: Any) -> Any:
    if SECOND and seed == 2 and step == 1:
        die()
    if seed == 5:  # slow enough to be stopped
        time.sleep(0.2)
        if step == 3:
            mark()
    return train_step(state, batches, config, seed, step, *more)


engine_run.evaluate_model = breaking_evaluation  # type: ignore[assignment]
engine_train.train_step = breaking_step  # type: ignore[assignment]

if __name__ == "__main__":
    worker.main()
