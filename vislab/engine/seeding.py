"""Random numbers that derive from (seed, purpose, step), so that a resumed run draws what it would have drawn."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.deterministic


def derived_seed(seed: int, *counters: int | str) -> int:
    """A 63-bit seed from a run's seed and counters; unrelated for neighbouring counters."""
    text = "/".join(str(part) for part in (seed, *counters))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_torch(seed: int, *counters: int | str) -> None:
    """Reseed torch's generators (CPU and CUDA) for one purpose, e.g. `seed_torch(run.seed, "step", step)`."""
    torch.manual_seed(derived_seed(seed, *counters))


@contextlib.contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Let torch choose kernels that give equal bits on equal input, also with several threads.

    Operators that have only a nondeterministic kernel on CUDA warn once instead of failing. Memory that is not yet
    written is left as it is: filling it costs time and no result may depend on it.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill
