"""What a training run notes down as it goes: losses, time, memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from vislab.engine.checkpoint import Elapsed
from vislab.engine.device import peak_memory_bytes, reset_peak_memory
from vislab.engine.log_sinks import Sink, flat_numbers
from vislab.records import atomic_path


class Clock:
    """Time and memory of this session on top of those before it."""

    def __init__(self, before: Elapsed, device: torch.device) -> None:
        reset_peak_memory(device)
        self.before, self.device, self.started = before, device, time.perf_counter()

    def at(self, step: int) -> Elapsed:
        seconds = self.before.seconds + time.perf_counter() - self.started
        return Elapsed(step, seconds, max(self.before.peak_memory_bytes, peak_memory_bytes(self.device)))


class MetricsLog:
    """metrics.jsonl: losses averaged since the line before. Lines after the checkpoint of a killed run are dropped.

    sink: is told every line as well.
    """

    def __init__(self, path: Path, first_step: int, sink: Sink | None = None) -> None:
        self.path, self.sink = path, sink
        self.sums: dict[str, float] = {}
        self.count = 0
        kept = [line for line in _complete_lines(path) if json.loads(line)["step"] <= first_step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def add(self, losses: dict[str, float]) -> None:
        """Weighted losses of one step, by name."""
        self.count += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def write(self, elapsed: Elapsed, **more: float) -> None:
        losses = {name: value / self.count for name, value in self.sums.items()}
        record: dict[str, Any] = {"step": elapsed.step, "loss": sum(losses.values()), "losses": losses, **more}
        record |= {"seconds": elapsed.seconds, "peak_memory_bytes": elapsed.peak_memory_bytes}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.sink is not None:
            self.sink.write(elapsed.step, flat_numbers(record))
        self.sums, self.count = {}, 0


class NoLog:
    """What processes write that leave it to another one."""

    def add(self, losses: dict[str, float]) -> None:
        pass

    def write(self, elapsed: Elapsed, **more: float) -> None:
        pass


def _complete_lines(path: Path) -> list[str]:
    """Lines that end in a newline: a kill may have torn the last one."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text.split("\n")[:-1]
