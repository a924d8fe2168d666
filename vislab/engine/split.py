"""How the clips of a training step are spread over processes, so that the step is the same for any number of them.

A step is `batch_size` clips in micro batches, each normalised by itself; which clips they are is decided before anyone
asks how many processes there are. If there are enough micro batches, every process takes as many of them as every
other one, one after the other: that is how accumulation follows from the number of processes. Otherwise a few
processes share one (`vislab.shared_batch`). Gradients are averaged by torch's DistributedDataParallel.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vislab.data.collate import pad_batch
from vislab.engine.config import TrainConfig
from vislab.engine.seeding import derived_seed, seed_torch
from vislab.engine.team import Team, neighbours
from vislab.errors import UserError
from vislab.shared_batch import Share, largest, sharing
from vislab.structures import Batch


@dataclass(frozen=True)
class MicroBatch:
    """Which clips: `size` of them from number `first_clip` of `step` on."""

    step: int
    first_clip: int
    size: int


@dataclass(frozen=True)
class Split:
    """What one process does of every step. numbers: of its micro batches. parts: in how many parts each is cut, of
    which it does number `part`: `size` clips from place `first` of the micro batch on."""

    numbers: range
    parts: int
    part: int
    first: int
    size: int
    whole_size: int

    def micro_batches(self, step: int) -> list[MicroBatch]:
        return [MicroBatch(step, number * self.whole_size + self.first, self.size) for number in self.numbers]


def split_step(config: TrainConfig, rank: int = 0, processes: int = 1) -> Split:
    """The work of one of several processes. Raises UserError if some of them would have none."""
    whole = config.micro_batch or config.batch_size
    count = config.batch_size // whole
    groups = math.gcd(count, processes)
    parts = processes // groups
    if parts > whole:
        clips = f"{config.batch_size} in micro batches of {whole}" if config.micro_batch else str(config.batch_size)
        raise UserError(f"train.batch_size is {clips}, too few for {processes} processes; expected a multiple of them")
    share, part = count // groups, rank % parts
    first, last = part * whole // parts, (part + 1) * whole // parts
    numbers = range(rank // parts * share, (rank // parts + 1) * share)
    return Split(numbers, parts, part, first, last - first, whole)


class StepLosses(nn.Module):
    """Model and criterion as one module, whose gradients are averaged together."""

    def __init__(self, model: nn.Module, criterion: nn.Module) -> None:
        super().__init__()
        self.model, self.criterion = model, criterion

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The weighted losses by name, and their sum. A model with reads_targets = True is told targets and frame
        numbers as well, for denoising queries and the like."""
        known = (batch.targets, batch.frame_numbers) if getattr(self.model, "reads_targets", False) else ()
        output = self.model(batch.images, batch.padding_mask, *known)
        losses = self.criterion(output, batch.targets, self.model.mask_stride)
        return losses, torch.stack(list(losses.values())).sum()


class AnchoredLosses(StepLosses):
    """The same with a total that always has a gradient, of a parameter that nobody trains: the processes wait for each
    other's, also where clips give nothing to learn."""

    def __init__(self, model: nn.Module, criterion: nn.Module) -> None:
        super().__init__(model, criterion)
        self.anchor = nn.Parameter(torch.zeros((), device=next(model.parameters()).device))

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        losses, total = super().forward(batch)
        return losses, total + 0.0 * self.anchor


class Steps:
    """Forward and backward passes of this process's part of a step."""

    def __init__(self, model: nn.Module, criterion: nn.Module, split: Split, team: Team) -> None:
        self.split, self.team = split, team
        self.losses: nn.Module = StepLosses(model, criterion)
        if team.size > 1:
            # unused: what the clips at hand give nothing to learn, such as mask heads where nothing is to be seen
            self.losses = DistributedDataParallel(AnchoredLosses(model, criterion), find_unused_parameters=True)
        self._neighbours = neighbours(split.parts) if split.parts > 1 else None

    def padded(self, batch: Batch) -> Batch:
        """As the micro batch is that this one is a part of."""
        if self.split.parts == 1:
            return batch
        with sharing(Share(gather=self._gather)):
            return pad_batch(batch, largest(batch.images.shape[-2]), largest(batch.images.shape[-1]))

    @contextlib.contextmanager
    def micro_batch(self, index: int, seed: int, step: int) -> Iterator[None]:
        """Around the passes of one of the process's micro batches, seeded by its number in the step."""
        number, last = self.split.numbers[index], index == len(self.split.numbers) - 1
        counters = ("step", step, number) if number else ("step", step)
        seed_torch(seed, *counters, *((f"part {self.split.part}",) if self.split.part else ()))
        with self._accumulating(last), sharing(self._share(derived_seed(seed, *counters))):
            yield

    def _accumulating(self, last: bool) -> AbstractContextManager[object]:
        """Gradients of the processes meet in the last micro batch only."""
        if last or not isinstance(self.losses, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.losses.no_sync()

    def _share(self, seed: int) -> Share:
        if self.split.parts == 1:
            return Share()
        return Share(self.split.part, self._gather, torch.Generator().manual_seed(seed))

    def _gather(self, number: float) -> list[float]:
        numbers = torch.zeros(self.split.parts, dtype=torch.float64)
        numbers[self.split.part] = number
        dist.all_reduce(numbers, group=self._neighbours)
        return numbers.tolist()
