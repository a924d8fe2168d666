"""A run that is killed at random moments and started again, beside one that is not. Run by test_kill.py.

    python killed_run.py FOLDER KILLS [--real]

Forks one process per start, so that torch is imported once. Prints how many starts were killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # what the first optimiser would import in every fork  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))

from engine_fakes import FakeCriterion, FakeModel, FakeVideos
from engine_runs import small_run

from vislab.data.sampling import SamplingConfig, training_batch
from vislab.engine import Silent, execute
from vislab.engine.checkpoint import TrainingState, save_tensors
from vislab.engine.config import TrainConfig
from vislab.engine.optimizer import build_optimizer
from vislab.engine.seeding import seed_torch
from vislab.engine.train import MicroBatch, train
from vislab.records import RunStore
from vislab.structures import Batch


def fake_run(folder: Path) -> None:
    """The loop alone: a checkpoint every other step, so that many kills hit the writing of one."""
    seed_torch(0, "initial weights")
    model, criterion = FakeModel(), FakeCriterion()
    config = TrainConfig(steps=30, batch_size=2, micro_batch=1, learning_rate=0.01, checkpoint_every=2, log_every=1)
    state = TrainingState(model, criterion, build_optimizer(model, criterion, config))

    def load(part: MicroBatch) -> Batch:
        sampling = SamplingConfig(clip_length=2)
        return training_batch(
            FakeVideos(), sampling, batch_size=part.size, seed=0, step=part.step, first_sample=part.first_clip
        )

    train(state, load, config, seed=0, folder=folder, device=torch.device("cpu"), watcher=Silent())
    save_tensors(folder / "weights.safetensors", state.tensors())


def real_run(folder: Path) -> None:
    execute(small_run(steps=40), RunStore(folder), "cpu", Silent())


def start(work: Callable[[Path], None], folder: Path) -> int:
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        work(folder)
        os._exit(0)
    return pid


def finish(work: Callable[[Path], None], folder: Path) -> None:
    _, status = os.waitpid(start(work, folder), 0)
    assert status == 0, f"a run that nobody killed ended with {status}"


def main() -> None:
    folder, kills, work = Path(sys.argv[1]), int(sys.argv[2]), real_run if "--real" in sys.argv else fake_run
    begun = time.perf_counter()
    finish(work, folder / "whole")
    length = time.perf_counter() - begun
    moments = random.Random(0)
    killed = 0
    for _ in range(kills):
        pid = start(work, folder / "parts")
        time.sleep(moments.uniform(0, 2 * length / kills))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert status in (0, signal.SIGKILL), f"a start ended by itself with {status}"
        killed += status == signal.SIGKILL
    finish(work, folder / "parts")
    print(killed)


if __name__ == "__main__":
    main()
