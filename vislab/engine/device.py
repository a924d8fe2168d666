"""The machine under a run: which device, how many threads, how much memory."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from vislab.errors import UserError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str) -> torch.device:
    """name: auto (CUDA if there is one), cpu or cuda. Raises UserError for others, and for cuda where there is none."""
    if name not in DEVICES:
        raise UserError(f"--device is '{name}', expected one of {', '.join(DEVICES)}")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        raise UserError(f"--device is 'cuda', but {why}; use cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Run a block with so many threads inside torch's operators; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement. Where the system cannot (not Linux), the peak counts from the process's start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident size


def peak_memory_bytes(device: torch.device) -> int:
    """Largest allocation on CUDA, else largest resident size of the process, since the last reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
