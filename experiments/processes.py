"""Runs that several processes share: the option that says so, and what it means for the others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

import torch

from vislab.engine.config import TrainConfig
from vislab.engine.split import split_step
from vislab.errors import UserError
from vislab.metrics.parallel import available_cores
from vislab.study.torchrun import started_by_torchrun


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes-per-run", type=int, default=1, metavar="N",
        help="that share each run, on this machine: one for each GPU, or on CPU cores; results do not depend on it "
        "(default: 1; on several machines start this script with torchrun)",
    )  # fmt: skip


def processes_of(options: argparse.Namespace, device: str) -> int:
    """How many processes are to be started for each run. Raises UserError for what cannot be meant."""
    count = options.processes_per_run
    if count < 1:
        raise UserError(f"--processes-per-run is {count}, expected 1 or more")
    here = options.launcher == "local" and not started_by_torchrun()
    if here and device == "cuda" and count > torch.cuda.device_count():
        raise UserError(f"--processes-per-run is {count}, but this machine has {torch.cuda.device_count()} GPUs")
    if started_by_torchrun():
        for name, value in (("--processes-per-run", count), ("--jobs", options.jobs or 1)):
            if value != 1:
                raise UserError(
                    f"{name} is {value}, but torchrun's {os.environ['WORLD_SIZE']} processes share each run"
                )
    return count


def default_jobs(device: str, processes: int) -> int:
    """Runs side by side: as many as there are cores for, on GPUs one."""
    if device != "cpu":
        return 1
    return max(1, available_cores() // processes)


def check_shares(trainings: Iterable[TrainConfig], processes: int) -> None:
    """Raises UserError where a training step has less clips than there are processes."""
    size = int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else processes
    for training in trainings:
        split_step(training, 0, size)
