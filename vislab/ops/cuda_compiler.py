"""Compile the CUDA kernels (kernels/deform_attn) on first use, with what a machine with torch's CUDA wheels has: NVRTC.

NVRTC is a library that the wheels bring along; where it is missing, nvcc does. Either makes machine code for one kind
of device, kept in the cache under a name that carries a hash of sources, compiler and options. It appears under that
name by an atomic rename, so that processes may build it at the same time.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vislab.ops.native import SOURCES, cache_folder

OLDEST = 80  # compute capability times ten


class KernelError(RuntimeError):
    """Why there is no CUDA kernel, in one clause."""


@dataclass(frozen=True)
class Compiler:
    """A compiler of CUDA C++, and the architectures (compute capability times ten) that it knows."""

    name: str
    architectures: tuple[int, ...]
    compile: Callable[[Path, list[str], bool], bytes]  # (source, options, whether to stop at PTX)


@functools.cache
def find_compiler() -> Compiler:
    """NVRTC or else nvcc. Raises `KernelError` where there is neither."""
    for path in nvrtc_candidates():
        try:
            return Nvrtc(path).compiler()
        except OSError:
            continue
    command = find_nvcc()
    if command is None:
        raise KernelError("neither NVRTC (it comes with torch's CUDA wheels) nor nvcc (PATH, CUDA_HOME) was found")
    return nvcc_compiler(command)


def build(name: str, defines: dict[str, int], capability: tuple[int, int], compiler: Compiler | None = None) -> Path:
    """The machine code of one build for a device of this compute capability; compiled unless the cache has it.

    Args:
        name: what the file's name starts with, for people.
        defines: preprocessor macros that say what to compile.
        capability: (major, minor) of the device.
        compiler: by default the one that `find_compiler` finds.

    Raises:
        KernelError: if there are no sources, no compiler, or it fails.
    """
    compiler = compiler or find_compiler()
    sources = sorted(path for path in SOURCES.glob("*") if path.suffix in (".cu", ".cuh"))
    if not sources:
        raise KernelError(f"no kernel sources at {SOURCES} (they come with a checkout, not with a wheel)")
    target = choose_target(capability, compiler.architectures)
    options = [f"-arch={target}", "-std=c++17", *(f"-D{macro}={number}" for macro, number in defines.items())]
    parts = [compiler.name, *options, *(path.name + path.read_text() for path in sources)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    to_ptx = target.startswith("compute")
    path = cache_folder() / "kernels" / f"{name}-{target}-{key}.{'ptx' if to_ptx else 'cubin'}"
    if not path.exists():
        write_atomically(path, compiler.compile(SOURCES / "deform_attn.cu", options, to_ptx))
    return path


def choose_target(capability: tuple[int, int], known: tuple[int, ...]) -> str:
    """sm_XX: machine code that the device runs. compute_XX: PTX, for a device newer than the compiler."""
    major, minor = capability
    device = 10 * major + minor
    if device < OLDEST:
        raise KernelError(f"the device has compute capability {major}.{minor}, the kernel needs 8.0 or newer")
    older = [number for number in known if OLDEST <= number <= device]
    if not older:
        raise KernelError(f"the compiler knows no architecture that compute capability {major}.{minor} runs")
    newest = max(older)
    return f"sm_{newest}" if newest // 10 == major else f"compute_{newest}"


def write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(suffix=".partial", prefix=path.stem, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def nvrtc_candidates() -> list[Path]:
    """Where NVRTC may lie: among torch's wheels (nvidia/cu13, nvidia/cuda_nvrtc), then in the CUDA toolkit."""
    wheels = Path(torch.__file__).parents[1] / "nvidia"
    toolkits = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    toolkits.append(Path("/usr/local/cuda"))
    patterns = [(wheels, "*/lib/libnvrtc.so.*"), *((kit, "lib*/libnvrtc.so.*") for kit in toolkits)]
    return [path for folder, pattern in patterns for path in sorted(folder.glob(pattern), reverse=True)]


class Nvrtc:
    """The few functions of NVRTC that are needed. Raises `OSError` if the library cannot be loaded."""

    def __init__(self, path: Path) -> None:
        # NVRTC looks for this one by name only; once loaded, it is found.
        for companion in path.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(companion))
        self.library = ctypes.CDLL(str(path))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def compiler(self) -> Compiler:
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._check(self.library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self._check(self.library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        architectures = (ctypes.c_int * count.value)()
        self._check(self.library.nvrtcGetSupportedArchs(architectures))
        return Compiler(f"NVRTC {major.value}.{minor.value}", tuple(architectures), self.compile)

    def compile(self, source: Path, options: list[str], to_ptx: bool) -> bytes:
        program = ctypes.c_void_p()
        text, name = source.read_bytes(), source.name.encode()
        self._check(self.library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
        try:
            flags = [option.encode() for option in (*options, f"-I{source.parent}")]
            result = self.library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
            if result != 0:
                raise KernelError(f"NVRTC failed: {_first_error(self._output(program, 'ProgramLog'))}")
            return self._output(program, "PTX" if to_ptx else "CUBIN")
        finally:
            self.library.nvrtcDestroyProgram(ctypes.byref(program))

    def _output(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self.library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, result: int) -> None:
        if result != 0:
            raise KernelError(f"NVRTC failed: {self.library.nvrtcGetErrorString(result).decode()}")


def find_nvcc() -> str | None:
    """The path of nvcc: on PATH, or in $CUDA_HOME."""
    found = shutil.which("nvcc")
    if found is None and os.environ.get("CUDA_HOME"):
        found = shutil.which("nvcc", path=str(Path(os.environ["CUDA_HOME"]) / "bin"))
    return found


def nvcc_compiler(command: str) -> Compiler:
    def ask(option: str) -> str:
        return subprocess.run([command, option], capture_output=True, text=True, check=False).stdout

    def compile(source: Path, options: list[str], to_ptx: bool) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "output"
            mode = "-ptx" if to_ptx else "-cubin"
            process = subprocess.run(
                [command, *options, mode, "-o", str(output), str(source)], capture_output=True, text=True, check=False
            )
            if process.returncode != 0:
                raise KernelError(f"nvcc failed: {_first_error(process.stderr.encode())}")
            return output.read_bytes()

    release = re.search(r"release ([\d.]+)", ask("--version"))
    architectures = tuple(int(number) for number in re.findall(r"compute_(\d+)\b", ask("--list-gpu-arch")))
    return Compiler(f"nvcc {release[1] if release else '(unknown release)'} at {command}", architectures, compile)


def _first_error(log: bytes) -> str:
    lines = log.decode(errors="replace").strip("\0\n ").splitlines() or ["no message"]
    return next((line for line in lines if "error" in line), lines[0])
