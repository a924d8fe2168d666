"""The native CPU kernel (sources in kernels/deform_attn): compiled once per machine, on first use.

How it is built and kept: `vislab.native_build`. No torch headers.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

from vislab.native_build import KERNELS, NativeKernel, build_kernel, load_kernel
from vislab.native_build import NoKernelError as _NoKernelError  # noqa: F401
from vislab.native_build import cache_folder as cache_folder
from vislab.native_build import find_compiler as find_compiler

SOURCES = KERNELS / "deform_attn"
# -O2 with complete unrolling of short loops is as fast as -O3 here and compiles sooner.
FLAGS = ("-std=c++17", "-O2", "-fpeel-loops", "-fPIC", "-shared", "-fvisibility=hidden", "-fopenmp", "-w")
# No contraction: positions are rounded like torch's, see locate.h. The other two let comparisons become selections.
ARITHMETIC_FLAGS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
INSTRUCTION_SETS = {
    "baseline": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
}


def instruction_set() -> str:
    """The widest instruction set that this processor runs, a key of INSTRUCTION_SETS."""
    return {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), "baseline")


@functools.cache
def native_kernel(target: str | None = None) -> NativeKernel:
    """Build (if the cache does not have it) and load the kernel for one instruction set, by default this machine's.

    Never raises for a missing compiler or a failed build: the reason says what happened, and the definition runs.
    """
    target = target or instruction_set()
    return load_kernel(SOURCES, (*FLAGS, *ARITHMETIC_FLAGS, *INSTRUCTION_SETS[target]), target, _declare)


def build(compiler: list[str], flags: tuple[str, ...], target: str) -> Path:
    """Compile the sources unless the cache has this very build; returns the library's path."""
    return build_kernel(SOURCES, compiler, flags, target)


def _declare(library: ctypes.CDLL) -> None:
    pointer = ctypes.c_void_p
    library.vislab_deform_attn_forward.argtypes = [pointer] * 9 + [ctypes.c_int]
    library.vislab_deform_attn_forward.restype = None
    library.vislab_deform_attn_backward.argtypes = [pointer] * 12 + [ctypes.c_int] * 2
    library.vislab_deform_attn_backward.restype = None
    library.vislab_deform_attn_instruction_set.restype = ctypes.c_char_p
