"""Compile C++ sources under kernels/ and load them: once per machine, on first use, with or without torch.

No build at install: a C interface, loaded with ctypes. A library's file name carries a hash of sources, compiler and
flags, so that nothing stale is ever loaded; it appears under that name by an atomic rename, so that processes may build
it at the same time.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1] / "kernels"


@dataclass(frozen=True)
class NativeKernel:
    """The loaded library, or None, and in one clause which build it is or why there is none."""

    library: ctypes.CDLL | None
    reason: str


class NoKernelError(Exception):
    """Why there is no native kernel, in one clause."""


def load_kernel(
    sources: Path, flags: tuple[str, ...], target: str, declare: Callable[[ctypes.CDLL], None]
) -> NativeKernel:
    """Build (if the cache does not have it) and load the kernel of a folder.

    Never raises for a missing compiler or a failed build: the reason says what happened.

    Args:
        sources, flags, target: as for `build_kernel`.
        declare: gives the library's functions their argument types.
    """
    try:
        path = build_kernel(sources, find_compiler(), flags, target)
        library = ctypes.CDLL(str(path))
    except NoKernelError as error:
        return NativeKernel(None, str(error))
    except OSError as error:
        return NativeKernel(None, f"the kernel could not be built or loaded ({error})")
    declare(library)
    return NativeKernel(library, f"{target} build {path}")


def find_compiler() -> list[str]:
    """The compiler command: $CXX, or the first of g++, clang++, c++ on PATH; raises NoKernelError without one."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for candidate in candidates:
        command = shlex.split(candidate)
        if command and shutil.which(command[0]):
            return command
    raise NoKernelError(f"no C++ compiler found (looked for {', '.join(candidates)})")


def cache_folder() -> Path:
    """$VISLAB_CACHE, or vislab/ in the platform's folder for caches."""
    if os.environ.get("VISLAB_CACHE"):
        return Path(os.environ["VISLAB_CACHE"])
    home = Path.home()
    platform = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or platform) / "vislab"


def build_kernel(sources: Path, compiler: list[str], flags: tuple[str, ...], target: str) -> Path:
    """Compile sources/NAME.cpp, NAME that of the folder, unless the cache has this very build; the library's path.

    Args:
        sources: a folder; all its .cpp and .h files are part of what the build depends on.
        target: a word for the file name.

    Raises:
        NoKernelError: the sources are not there, or the compiler fails.
        OSError: the cache cannot be written.
    """
    files = sorted(path for path in sources.glob("*") if path.suffix in (".cpp", ".h"))
    if not files:
        raise NoKernelError(f"no kernel sources at {sources} (they come with a checkout, not with a wheel)")
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    parts = [shlex.join(compiler), version, *flags, *(path.name + path.read_text() for path in files)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    library = cache_folder() / "kernels" / f"{sources.name}-{target}-{key}.so"
    if not library.exists():
        _compile(compiler, [*flags, str(sources / f"{sources.name}.cpp")], library)
    return library


def _compile(compiler: list[str], options: list[str], library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=".partial", prefix=library.stem, dir=library.parent)
    os.close(handle)
    try:
        result = subprocess.run([*compiler, *options, "-o", partial], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            told = next((line for line in lines if "error" in line), lines[0])
            raise NoKernelError(f"{shlex.join(compiler)} failed: {told}")
        os.chmod(partial, 0o755)
        os.replace(partial, library)
    finally:
        Path(partial).unlink(missing_ok=True)
