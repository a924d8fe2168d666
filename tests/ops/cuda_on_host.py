"""The launches of the CUDA kernels of deform_attn, run by the kernels' emulation on the host."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import subprocess
from pathlib import Path

from torch import Tensor

from vislab.ops import native
from vislab.ops.cuda_launch import Launch

FLAGS = (
    *("-std=c++17", "-Og", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off"),
    *("-w", "-x", "c++"),
)


@functools.cache
def library(element: int, channels: int) -> ctypes.CDLL:
    """All kernels of one element type and number of channels; built in 2 s if the cache does not have them."""
    sources = sorted(path for path in native.SOURCES.glob("*") if path.suffix in (".cu", ".cuh") or "host" in path.stem)
    defines = (f"-DVISLAB_ELEMENT={element}", f"-DVISLAB_CHANNELS={channels}", "-DVISLAB_PARTS=7", "-DVISLAB_ON_HOST")
    compiler = native.find_compiler()
    parts = [*compiler, *FLAGS, *defines, *(path.read_text() for path in sources)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    path = native.cache_folder() / "kernels" / f"deform_attn-on-host-{element}-{channels}-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{hash(path) & 0xFFFF:x}.partial")
        source = native.SOURCES / "deform_attn.cu"
        subprocess.run([*compiler, *FLAGS, *defines, "-o", str(partial), str(source)], check=True)
        partial.replace(path)
    return _declared(path)


def _declared(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    loaded.launch_on_host.restype = ctypes.c_char_p
    loaded.bytes_of_arguments.restype = ctypes.c_longlong
    return loaded


class Emulator:
    """A launcher. Blocks, warps and lanes run in an order that depends on the seed; `log` has what was launched."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.log: list[Launch] = []

    def __call__(self, launch: Launch) -> None:
        self.log.append(launch)
        defines, tensors = launch.variant.defines, launch.tensors
        starts = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        sizes = (ctypes.c_longlong * len(tensors))(*(_bytes(tensor) for tensor in tensors))
        problem = library(defines["VISLAB_ELEMENT"], defines["VISLAB_CHANNELS"]).launch_on_host(
            launch.kernel.encode(),
            ctypes.c_longlong(launch.grid),
            launch.block,
            launch.shared_bytes,
            ctypes.byref(launch.arguments),
            starts,
            sizes,
            len(tensors),
            ctypes.c_uint(self.seed),
        )
        if problem:
            raise AssertionError(f"{launch.kernel}: {problem.decode()}")


def _bytes(tensor: Tensor) -> int:
    """From the first to behind the last element; expanded tensors repeat themselves."""
    if tensor.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
