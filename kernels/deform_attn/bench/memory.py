"""Extra peak memory of one call: what it returns, plus whatever it needs on the way."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def extra_peak(device: str, call: Callable[[], object], repeats: int = 3) -> int | None:
    """Bytes above what was in use before the call, the least of `repeats`; None where that cannot be measured.

    On the CPU it is the peak resident size that Linux keeps of this process, C++ scratch memory included: freed memory
    is handed back to the system first and the peak is reset. On a GPU it is what torch's allocator counts. The call
    should have been made before, so that code and caches are loaded.
    """
    measure = _extra_cuda if device == "cuda" else _extra_resident
    gc.collect()
    try:
        return min(measure(call) for _ in range(repeats))
    except (OSError, AttributeError):  # no Linux, no glibc, or a container that forbids to reset the peak
        return None


def _extra_cuda(call: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = call()
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - before
    del kept
    return extra


def _extra_resident(call: Callable[[], object]) -> int:
    if not sys.platform.startswith("linux"):
        raise OSError("resident peaks are read from /proc")
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    kept = call()
    extra = _status("VmHWM") - before
    del kept
    return extra


def _status(field: str) -> int:
    """A size of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return 1024 * int(rest.split()[0])
    raise OSError(f"/proc/self/status has no {field}")
