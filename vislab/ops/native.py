"""Build and load the native CPU kernel (sources in kernels/deform_attn): compiled once per machine, on first use.

No torch headers and no build at install: a C interface, loaded with ctypes. The library's file name carries a hash of
sources, compiler and flags, so that nothing stale is ever loaded; it appears under that name by an atomic rename, so
that processes may build it at the same time.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

SOURCES = Path(__file__).resolve().parents[2] / "kernels" / "deform_attn"
# -O2 with complete unrolling of short loops is as fast as -O3 here and compiles sooner.
FLAGS = ("-std=c++17", "-O2", "-fpeel-loops", "-fPIC", "-shared", "-fvisibility=hidden", "-fopenmp", "-w")
# No contraction: positions are rounded like torch's, see locate.h. The other two let comparisons become selections.
ARITHMETIC_FLAGS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
INSTRUCTION_SETS = {
    "baseline": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
}


@dataclass(frozen=True)
class NativeKernel:
    """The loaded library, or None, and in one clause which build it is or why there is none."""

    library: ctypes.CDLL | None
    reason: str


def instruction_set() -> str:
    """The widest instruction set that this processor runs, a key of INSTRUCTION_SETS."""
    return {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), "baseline")


@functools.cache
def native_kernel(target: str | None = None) -> NativeKernel:
    """Build (if the cache does not have it) and load the kernel for one instruction set, by default this machine's.

    Never raises for a missing compiler or a failed build: the reason says what happened, and the definition runs.
    """
    target = target or instruction_set()
    try:
        compiler = find_compiler()
        path = build(compiler, (*FLAGS, *ARITHMETIC_FLAGS, *INSTRUCTION_SETS[target]), target)
        return NativeKernel(_declare(ctypes.CDLL(str(path))), f"{target} build {path}")
    except _NoKernelError as error:
        return NativeKernel(None, str(error))
    except OSError as error:
        return NativeKernel(None, f"the kernel could not be built or loaded ({error})")


class _NoKernelError(Exception):
    """Why there is no native kernel, in one clause."""


def find_compiler() -> list[str]:
    """The compiler command: $CXX, or the first of g++, clang++, c++ on PATH."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for candidate in candidates:
        command = shlex.split(candidate)
        if command and shutil.which(command[0]):
            return command
    raise _NoKernelError(f"no C++ compiler found (looked for {', '.join(candidates)})")


def cache_folder() -> Path:
    """$VISLAB_CACHE, or vislab/ in the platform's folder for caches."""
    if os.environ.get("VISLAB_CACHE"):
        return Path(os.environ["VISLAB_CACHE"])
    home = Path.home()
    platform = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or platform) / "vislab"


def build(compiler: list[str], flags: tuple[str, ...], target: str) -> Path:
    """Compile the sources unless the cache has this very build; returns the library's path."""
    sources = sorted(path for path in SOURCES.glob("*") if path.suffix in (".cpp", ".h"))
    if not sources:
        raise _NoKernelError(f"no kernel sources at {SOURCES} (they come with a checkout, not with a wheel)")
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    parts = [shlex.join(compiler), version, *flags, *(path.name + path.read_text() for path in sources)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    library = cache_folder() / "kernels" / f"deform_attn-{target}-{key}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=".partial", prefix=library.stem, dir=library.parent)
    os.close(handle)
    try:
        command = [*compiler, *flags, str(SOURCES / "deform_attn.cpp"), "-o", partial]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            told = next((line for line in lines if "error" in line), lines[0])
            raise _NoKernelError(f"{shlex.join(compiler)} failed: {told}")
        os.chmod(partial, 0o755)
        os.replace(partial, library)
    finally:
        Path(partial).unlink(missing_ok=True)
    return library


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer = ctypes.c_void_p
    library.vislab_deform_attn_forward.argtypes = [pointer] * 9 + [ctypes.c_int]
    library.vislab_deform_attn_forward.restype = None
    library.vislab_deform_attn_backward.argtypes = [pointer] * 12 + [ctypes.c_int] * 2
    library.vislab_deform_attn_backward.restype = None
    library.vislab_deform_attn_instruction_set.restype = ctypes.c_char_p
    return library
