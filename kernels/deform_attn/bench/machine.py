"""The hardware's name, and what it can do at best: both measured and named in the run that uses them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from vislab.report.benchmark_file import processor_name


@dataclass(frozen=True)
class Limits:
    """Bytes and floating-point operations per second, float32."""

    bandwidth: float
    flop_rate: float

    def least_seconds(self, num_bytes: int, flops: int) -> float:
        """The roofline: nobody is faster than the slower of moving the bytes and doing the sums."""
        return max(num_bytes / self.bandwidth, flops / self.flop_rate)


def hardware(device: str) -> str:
    """Model of the processor and its cores, or of the GPU; never the name of the host."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return processor_name()


def measure_limits(device: str, small: bool = False) -> Limits:
    """Copy bandwidth (reading and writing counted) and the rate of a large matrix product, the best of several."""
    source = torch.ones(2**18 if small else 2**26, device=device)  # 256 MiB: more than any cache
    target = torch.empty_like(source)
    size = 128 if small else 4096 if device == "cuda" else 1536
    square = torch.rand(size, size, device=device)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # no TF32: multiply-adds of the ordinary units
    try:
        product = _best(device, lambda: square @ square)
    finally:
        torch.set_float32_matmul_precision(before)
    copy = _best(device, lambda: target.copy_(source))
    return Limits(2 * source.nbytes / copy, 2 * size**3 / product)


def _best(device: str, action) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)
