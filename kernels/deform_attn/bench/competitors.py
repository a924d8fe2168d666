"""Everybody who computes deformable attention here, and why some of them cannot."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from unittest import mock

import torch
from torch import Tensor

from vislab.ops import cpu, deform_attn, deform_attn_fused
from vislab.ops.deformable import Backend
from vislab.ops.native import INSTRUCTION_SETS, instruction_set, native_kernel

from .cases import Inputs, Levels
from .forms import OneFrame, Run, definition, level_tables, locations_and_weights, per_source, sample_grid

FLOAT32 = (torch.float32,)
ALL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Competitor:
    """Somebody who takes the inputs of a case and gives its output, differentiably."""

    name: str
    run: Run
    dtypes: tuple[torch.dtype, ...] = FLOAT32
    is_reference: bool = False  # a candidate for the reference of the ratios
    is_ours: bool = False  # an exception is a fault, and stops the run like a wrong result
    context: Callable[[], AbstractContextManager] = nullcontext


class MissingError(Exception):
    """Why a competitor is absent, in one clause."""


def competitors(device: str, wanted: Sequence[str], fused: bool) -> tuple[list[Competitor], dict[str, str]]:
    """Those whose names begin with the words of one of `wanted` (all if it is empty), and why others are absent.

    The grid_sample form is always among them: ratios need it. To be called anew after the number of threads changed.
    """
    found: list[Competitor] = []
    missing: dict[str, str] = {}
    for name, make in _makers(device, fused).items():
        chosen = not wanted or any(f"{name} ".startswith(f"{words} ") for words in wanted)
        if not chosen and name != "grid_sample":
            continue
        try:
            found.append(make(name))
        except MissingError as error:
            missing[name] = str(error)
    return found, missing


def names() -> list[str]:
    """All that may take part, on the CPU or a GPU."""
    return list(dict.fromkeys([*_makers("cpu", True), *_makers("cuda", True)]))


def _makers(device: str, fused: bool) -> dict[str, Callable[[str], Competitor]]:
    """By name; a maker raises MissingError where its competitor is absent."""
    makers: dict[str, Callable[[str], Competitor]] = {
        "grid_sample": lambda name: Competitor(name, per_source(sample_grid), is_reference=True),
        "compiled grid_sample": lambda name: Competitor(name, _compiled_grid_sample(), is_reference=True),
        "definition": lambda name: Competitor(name, definition),
        "compiled definition": lambda name: Competitor(name, _compiled(definition)),
        "transformers": lambda name: Competitor(name, per_source(_transformers())),
        "mmcv": lambda name: Competitor(name, per_source(_mmcv(device))),
        "deformops": lambda name: Competitor(
            name, per_source(_deformops()), ALL_DTYPES if device == "cuda" else FLOAT32
        ),
    }
    if device == "cuda":
        makers["deformable-detr cuda"] = lambda name: Competitor(name, per_source(_original()))
        makers["vislab cuda"] = lambda name: Competitor(name, _vislab("cuda"), ALL_DTYPES, is_ours=True)
    else:
        makers |= {f"vislab cpu {target}": partial(_vislab_cpu, target) for target in INSTRUCTION_SETS}
    if fused:
        backend: Backend = "cuda" if device == "cuda" else "cpu"
        makers[f"vislab {device} three steps"] = lambda name: Competitor(name, _three_steps(backend), is_ours=True)
    return makers


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compiled on first use, for the sizes and the number of threads of then: what was compiled before is forgotten."""
    torch.compiler.reset()
    return torch.compile(function, dynamic=False)


def _compiled_grid_sample() -> Run:
    """All in one graph for one source frame. For several, the graph of one is called for each: compiled whole, they
    take minutes to compile."""
    whole, one_by_one = _compiled(per_source(sample_grid)), per_source(_compiled(sample_grid))
    return lambda inputs: (whole if len(inputs.frames[0]) == 1 else one_by_one)(inputs)


def _vislab(backend: Backend) -> Run:
    def run(inputs: Inputs) -> Tensor:
        index = (inputs.spatial_shapes, inputs.frame_index)
        if inputs.reference is None:
            return deform_attn(inputs.value, *index, inputs.coordinates, inputs.scores, backend=backend)
        raw = (inputs.reference, inputs.coordinates, inputs.scores)
        return deform_attn_fused(inputs.value, *index, *raw, backend=backend)

    return run


def _three_steps(backend: Backend) -> Run:
    """The operator that only samples, after softmax and locations in torch: what fusing them saves."""

    def run(inputs: Inputs) -> Tensor:
        locations, weights = locations_and_weights(inputs)
        index = (inputs.spatial_shapes, inputs.frame_index)
        return deform_attn(inputs.value, *index, locations, weights, backend=backend)

    return run


def _vislab_cpu(target: str, name: str) -> Competitor:
    """The operator, while the kernel's build for one instruction set stands in for the one of this machine."""
    widest = instruction_set()
    if list(INSTRUCTION_SETS).index(target) > list(INSTRUCTION_SETS).index(widest):
        raise MissingError(f"this processor has {widest} at most")
    kernel = native_kernel(target)
    if kernel.library is None:
        raise MissingError(kernel.reason)
    swap = partial(mock.patch.object, cpu, "native_kernel", lambda: kernel)
    return Competitor(name, _vislab("cpu"), ALL_DTYPES, is_ours=True, context=swap)


def _transformers() -> OneFrame:
    """MultiScaleDeformableAttention of transformers' Deformable DETR."""
    _need("transformers")
    try:
        from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention
    except ImportError as error:
        raise MissingError(f"this version of transformers has no such class ({error})") from None
    module = MultiScaleDeformableAttention()

    def one_frame(value: Tensor, levels: Levels, locations: Tensor, weights: Tensor) -> Tensor:
        shapes, starts = level_tables(levels, value.device)
        return module(value, shapes, list(levels), starts, locations, weights, 64)

    return one_frame


def _mmcv(device: str) -> OneFrame:
    """mmcv's form in torch; on a GPU its CUDA extension."""
    _need("mmcv")
    try:
        from mmcv.ops.multi_scale_deform_attn import (
            MultiScaleDeformableAttnFunction,
            multi_scale_deformable_attn_pytorch,
        )
    except ImportError as error:
        raise MissingError(f"installed without its operators ({error})") from None

    def one_frame(value: Tensor, levels: Levels, locations: Tensor, weights: Tensor) -> Tensor:
        shapes, starts = level_tables(levels, value.device)
        if device == "cuda":
            return MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
        return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)

    return one_frame


def _deformops() -> OneFrame:
    """The functional form of the package deformops, with the backend that it chooses itself."""
    _need("deformops")
    try:
        from deformops.registry import msda
    except ImportError as error:
        raise MissingError(f"cannot be imported ({error})") from None

    def one_frame(value: Tensor, levels: Levels, locations: Tensor, weights: Tensor) -> Tensor:
        shapes, starts = level_tables(levels, value.device)
        return msda(value, shapes, starts, locations, weights.flatten(-2))

    return one_frame


def _original() -> OneFrame:
    """The CUDA algorithm of Deformable DETR, rewritten in original.cu."""
    from .original import sample_original

    return sample_original


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingError("not installed")
