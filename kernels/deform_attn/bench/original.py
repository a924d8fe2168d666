"""The original CUDA algorithm (original.cu) as a function of torch, for the comparison only."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vislab.ops.cuda_compiler import choose_target, find_compiler
from vislab.ops.cuda_driver import Modules

from .cases import Levels
from .forms import level_tables

SOURCE = Path(__file__).with_name("original.cu")
THREADS = 1024  # a block of the forward pass, as in the original


class Arguments(ctypes.Structure):
    """`Arguments` of original.cu, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("value", "locations", "weights", "upstream", "output")),
        *((name, ctypes.c_void_p) for name in ("grad_value", "grad_locations", "grad_weights", "shapes", "starts")),
        *((name, ctypes.c_int32) for name in ("batch", "tokens", "queries", "heads", "levels", "points")),
    ]


class _OriginalModules(Modules):
    """Compiles original.cu, whatever the name of the build; kept for the life of the process only."""

    def _module(self, device: int, build_name: str, defines: dict[str, int]) -> tuple[ctypes.c_void_p, Path]:
        if (device, build_name) not in self.loaded:
            compiler = find_compiler()
            target = choose_target(torch.cuda.get_device_capability(device), compiler.architectures)
            options = [f"-arch={target}", "-std=c++17", *(f"-D{name}={number}" for name, number in defines.items())]
            code = compiler.compile(SOURCE, options, target.startswith("compute"))
            module = ctypes.c_void_p()
            self._call("cuModuleLoadData", ctypes.byref(module), code + b"\0")
            self.loaded[device, build_name] = (module, SOURCE)
        return self.loaded[device, build_name]


@functools.cache
def _modules() -> _OriginalModules:
    return _OriginalModules(ctypes.CDLL("libcuda.so.1"))


def sample_original(value: Tensor, levels: Levels, locations: Tensor, weights: Tensor) -> Tensor:
    """value (N, S, M, D), locations (N, Q, M, L, P, 2), weights (N, Q, M, L, P), on a GPU -> (N, Q, M * D)."""
    return _Original.apply(value, levels, locations, weights)


class _Original(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, levels: Levels, locations: Tensor, weights: Tensor) -> Tensor:
        tensors = [tensor.contiguous() for tensor in (value, locations, weights)]
        ctx.levels = levels
        ctx.save_for_backward(*tensors)
        output = value.new_empty((*weights.shape[:3], value.shape[-1]))
        assert output.numel() < 2**31 and value.numel() < 2**31, "the original counts with 32 bits"
        _launch("original_forward", -(-output.numel() // THREADS), THREADS, tensors, levels, output=output)
        return output.flatten(2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        grad_value, grad_locations, grad_weights = (torch.zeros_like(tensor) for tensor in tensors)
        blocks, channels = prod(tensors[2].shape[:3]), tensors[0].shape[-1]
        _launch(
            "original_backward", blocks, channels, tensors, ctx.levels, upstream=grads[0].contiguous(),
            grad_value=grad_value, grad_locations=grad_locations, grad_weights=grad_weights,
        )  # fmt: skip
        return grad_value, None, grad_locations, grad_weights


def _launch(kernel: str, grid: int, block: int, tensors: Sequence[Tensor], levels: Levels, **others: Tensor) -> None:
    value, locations, weights = tensors
    shapes, starts = level_tables(levels, value.device)  # cached: they outlive an asynchronous launch
    pointers = {"value": value, "locations": locations, "weights": weights, "shapes": shapes, "starts": starts} | others
    arguments = Arguments(**{name: tensor.data_ptr() for name, tensor in pointers.items()})
    arguments.batch, arguments.tokens, arguments.heads, channels = value.shape
    _, arguments.queries, _, arguments.levels, arguments.points = weights.shape
    _modules().launch(f"original-d{channels}", {"CHANNELS": channels}, kernel, grid, block, 0, arguments)
