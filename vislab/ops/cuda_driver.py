"""Load and launch compiled CUDA kernels through the driver library, on torch's context and stream. No CUDA headers.

The driver's functions are called with ctypes and every result is checked. Modules are kept per device for the life of
the process, as torch keeps its own.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from vislab.ops.cuda_compiler import KernelError, build, find_compiler

_DYNAMIC_SHARED_LIMIT = 48 * 1024  # what every kernel may use without asking


@dataclass(frozen=True)
class CudaKernel:
    """Whether the CUDA kernels run on a device, and in one clause which build it is or why not."""

    live: bool
    reason: str


@functools.cache
def cuda_kernel(device_index: int = 0) -> CudaKernel:
    """Compile (if the cache does not have it) and load one kernel for a device, as a probe. Never raises."""
    try:
        if torch.version.cuda is None:
            return CudaKernel(False, "this build of torch has no CUDA")
        if not torch.cuda.is_available() or device_index >= torch.cuda.device_count():
            return CudaKernel(False, "there is no CUDA device" + (f" {device_index}" if device_index else ""))
        with torch.cuda.device(device_index):
            path = modules().probe()
        return CudaKernel(True, f"{find_compiler().name}, {path.name.split('-')[-2]} build {path}")
    except KernelError as error:
        return CudaKernel(False, str(error))
    except (OSError, RuntimeError) as error:
        return CudaKernel(False, f"the kernel could not be built or loaded ({error})")


@functools.cache
def modules() -> Modules:
    """The process's loaded kernels. Raises `OSError` where there is no driver."""
    return Modules(ctypes.CDLL("libcuda.so.1"))


class Modules:
    """Compiled kernels, by device, build and name."""

    def __init__(self, driver: ctypes.CDLL) -> None:
        self.driver = driver
        self.functions: dict[tuple[int, str, str], ctypes.c_void_p] = {}
        self.loaded: dict[tuple[int, str], tuple[ctypes.c_void_p, Path]] = {}
        self.contexts: dict[int, ctypes.c_void_p] = {}
        self.lock = threading.RLock()  # the backward pass runs on threads of its own
        self._call("cuInit", ctypes.c_uint(0))

    def probe(self) -> Path:
        """Load one build on the current device; returns its file."""
        defines = {"VISLAB_ELEMENT": 32, "VISLAB_CHANNELS": 32, "VISLAB_PARTS": 1}
        with self.lock:
            self._enter(torch.cuda.current_device())
            return self._module(torch.cuda.current_device(), "deform_attn-float32-d32-forward", defines)[1]

    def launch(
        self,
        build_name: str,
        defines: dict[str, int],
        kernel: str,
        grid: int,
        block: int,
        shared_bytes: int,
        arguments: ctypes.Structure,
    ) -> None:
        """Put one kernel on torch's current stream of the current device. Its one argument is passed by value."""
        device = torch.cuda.current_device()
        stream = ctypes.c_void_p(torch.cuda.current_stream(device).cuda_stream)
        with self.lock:
            self._enter(device)
            function = self._function(device, build_name, defines, kernel, shared_bytes)
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        sizes = [ctypes.c_uint(size) for size in (grid, 1, 1, block, 1, 1, shared_bytes)]
        self._call("cuLaunchKernel", function, *sizes, stream, pointers, None)

    def _enter(self, device: int) -> None:
        # torch uses the device's primary context; a thread that has not called CUDA yet has none.
        if device not in self.contexts:
            handle, context = ctypes.c_int(), ctypes.c_void_p()
            self._call("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device))
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
            self.contexts[device] = context
        current = ctypes.c_void_p()
        self._call("cuCtxGetCurrent", ctypes.byref(current))
        if current.value != self.contexts[device].value:
            self._call("cuCtxSetCurrent", self.contexts[device])

    def _function(
        self, device: int, build_name: str, defines: dict[str, int], kernel: str, shared_bytes: int
    ) -> ctypes.c_void_p:
        assert shared_bytes <= _DYNAMIC_SHARED_LIMIT, "the plan keeps to what needs no permission"
        key = (device, build_name, kernel)
        if key not in self.functions:
            module, _ = self._module(device, build_name, defines)
            function = ctypes.c_void_p()
            self._call("cuModuleGetFunction", ctypes.byref(function), module, kernel.encode())
            self.functions[key] = function
        return self.functions[key]

    def _module(self, device: int, build_name: str, defines: dict[str, int]) -> tuple[ctypes.c_void_p, Path]:
        if (device, build_name) not in self.loaded:
            path = build(build_name, defines, torch.cuda.get_device_capability(device))
            module = ctypes.c_void_p()
            self._call("cuModuleLoadData", ctypes.byref(module), path.read_bytes() + b"\0")
            self.loaded[device, build_name] = (module, path)
        return self.loaded[device, build_name]

    def _call(self, name: str, *arguments: object) -> None:
        result = getattr(self.driver, name)(*arguments)
        if result != 0:
            text = ctypes.c_char_p()
            self.driver.cuGetErrorString(result, ctypes.byref(text))
            raise KernelError(f"{name} failed: {text.value.decode() if text.value else f'error {result}'}")
