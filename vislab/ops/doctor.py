"""Which paths of the functional kernels are live on this machine, and why."""

from __future__ import annotations

from typing import NamedTuple

from vislab import native_rle
from vislab.ops.attention import attention_backends
from vislab.ops.cuda import cuda_kernel
from vislab.ops.native import native_kernel


class PathStatus(NamedTuple):
    """One path of an op, whether it can run here, and the reason in one clause.

    Of those that take a `backend`, the path is its name; "rle" is what reads the run-length codes of an evaluation.
    """

    op: str
    path: str
    live: bool
    reason: str


def report() -> list[PathStatus]:
    """All paths of `deform_attn`, `attention` and the run-length codes. Builds what a first use would build."""
    kernel, cuda, codes = native_kernel(), cuda_kernel(), native_rle.native_kernel()
    return [
        PathStatus("deform_attn", "reference", True, "pure torch, every device and floating dtype"),
        PathStatus("deform_attn", "cpu", kernel.library is not None, kernel.reason),
        PathStatus("deform_attn", "cuda", cuda.live, cuda.reason),
        *(PathStatus("attention", *status) for status in attention_backends()),
        PathStatus("rle", "numpy", True, "numpy and pycocotools, for little data or without the kernel"),
        PathStatus("rle", "native", codes.library is not None, codes.reason),
    ]
