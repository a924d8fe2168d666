"""Which path of `deform_attn` is live on this machine, and why."""

from __future__ import annotations

from typing import NamedTuple

import torch

from vislab.ops.native import native_kernel


class PathStatus(NamedTuple):
    """One path (the name that `backend` takes), whether it can run here, and the reason in one clause."""

    path: str
    live: bool
    reason: str


def report() -> list[PathStatus]:
    """The paths reference, cpu and cuda of `deform_attn`. Builds the native kernel if that has not happened yet."""
    kernel = native_kernel()
    device = "there is no CUDA device either" if not torch.cuda.is_available() else "CUDA tensors take the definition"
    return [
        PathStatus("reference", True, "pure torch, every device and floating dtype"),
        PathStatus("cpu", kernel.library is not None, f"float32, {kernel.reason}"),
        PathStatus("cuda", False, f"not part of this release yet; {device}"),
    ]
