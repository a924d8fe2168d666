"""The processes that work on one run together, as torchrun starts them; one alone where it did not.

The first of them, rank 0, leads: it alone writes to the run store, and decides what there is to do.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from vislab.errors import UserError
from vislab.records import exclusive

T = TypeVar("T")

STEP_TIMEOUT = datetime.timedelta(minutes=30)  # of what all do at the same time, as the parts of a training step
WORK_TIMEOUT = datetime.timedelta(days=30)  # of waiting for another one's work, or for a job


@dataclass(frozen=True)
class Team:
    """rank: of this process, among `size`. control: a group of all for what may take long; None for one alone."""

    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agree(self, decide: Callable[[], T]) -> T:
        """What rank 0 decides, in all processes."""
        if self.size == 1:
            return decide()
        message = [decide() if self.leads else None]
        dist.broadcast_object_list(message, src=0, group=self.control)
        return message[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Until all are here."""
        self.gathered(None)

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is set in some process."""
        if self.size == 1:
            return flag
        votes = torch.tensor([flag], dtype=torch.uint8)
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self.control)
        return bool(votes)

    @contextlib.contextmanager
    def exclusive(self, folder: Path, on_wait: Callable[[Path], None]) -> Iterator[None]:
        """`records.exclusive`, for all processes together: rank 0 holds the lock, and the others wait until it does."""
        with exclusive(folder, on_wait) if self.leads else contextlib.nullcontext():
            self.wait()
            yield

    def device(self, device: torch.device) -> torch.device:
        """The one of this process: every process of a machine has a GPU of its own. Raises UserError if there are not
        enough."""
        if self.size == 1 or device.type != "cuda":
            return device
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise UserError(f"{local + 1} or more processes on a machine with {count} CUDA devices; expected one each")
        torch.cuda.set_device(local)
        return torch.device("cuda", local)


_team = Team()


def current_team() -> Team:
    """Of this process."""
    return _team


def join_team(store: dist.Store) -> Team:
    """Meet the other processes in a store; how many they are, torchrun's variables say."""
    global _team
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=STEP_TIMEOUT)
    _team = Team(rank, size, dist.new_group(backend="gloo", timeout=WORK_TIMEOUT))
    return _team


def leave_team() -> None:
    """At the end of an orderly process."""
    global _team
    if _team.size > 1:
        _team = Team()
        neighbours.cache_clear()
        dist.destroy_process_group()


@functools.cache
def neighbours(count: int) -> Any:
    """The group of this process and those beside it, `count` in all, a divisor of the team's size. Called by all."""
    rank, size = dist.get_rank(), dist.get_world_size()
    groups = [
        dist.new_group(list(range(first, first + count)), backend="gloo", timeout=STEP_TIMEOUT)
        for first in range(0, size, count)
    ]
    return groups[rank // count]


def is_lost_process(error: BaseException) -> bool:
    """Whether an error only says that another process of the team is gone, or does not answer."""
    text = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "NCCL", "Connection closed by peer"))
    )
