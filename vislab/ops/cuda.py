"""The CUDA kernels of deform_attn (kernels/deform_attn): tensors in, tensors out.

The functions `run_...` take a launcher, so that tests put the same launches through the kernels' emulation on the host.

Shape letters: B batch, T frames, Q queries, F source frames, L levels, P points, M heads, D channels per head,
S sum of height * width over levels.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from vislab.ops.cuda_driver import CudaKernel, cuda_kernel, modules
from vislab.ops.cuda_launch import (
    ELEMENTS,
    Frames,
    Launch,
    Launcher,
    Levels,
    PeakArguments,
    SettleArguments,
    Variant,
    arguments_for,
    launch_rows,
    point,
    row_grid,
    variant_for,
)

__all__ = ["CudaKernel", "backward", "cuda_kernel", "forward", "obstacle"]


def obstacle(value: Tensor) -> str | None:
    """Why the kernels cannot take this value, in one clause; None where they can."""
    if value.device.type != "cuda":
        return f"value is on {value.device}"
    if value.dtype not in ELEMENTS:
        return f"value is {value.dtype}, the kernel takes torch.float32, torch.bfloat16 and torch.float16"
    if value.shape[1] * value.shape[2] >= 2**31 or prod(value.shape[3:]) >= 2**31:
        return f"one clip of value has {value.shape[1] * value.shape[2]} pixels, the kernel's limit is 2**31 - 1"
    kernel = cuda_kernel(value.device.index)
    return None if kernel.live else kernel.reason


def forward(
    value: Tensor, levels: Levels, frames: Frames, reference: Tensor | None, coordinates: Tensor, scores: Tensor
) -> Tensor:
    """value (B, T, S, M, D), coordinates (B, T, Q, M, F, L, P, 2), scores (B, T, Q, M, F, L, P) -> (B, T, Q, M * D).

    Without a reference, coordinates are locations and scores are weights; with one, (B, T, Q, F, L, 2 or 4) float32,
    they are offsets and logits. Asynchronous, on torch's current stream.
    """
    with torch.cuda.device(value.device):
        return run_forward(launch_on_device, value, levels, frames, reference, coordinates, scores)


def backward(
    grad_output: Tensor,
    value: Tensor,
    levels: Levels,
    frames: Frames,
    reference: Tensor | None,
    coordinates: Tensor,
    scores: Tensor,
    *,
    location_gradients: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, coordinates and scores.

    With `location_gradients` the second one is with respect to locations in the fused form, too. If not
    `deterministic`, float32 sums of the first one depend on the order in which the device happens to add.
    """
    inputs = (grad_output, value, levels, frames, reference, coordinates, scores)
    with torch.cuda.device(value.device):
        return run_backward(
            launch_on_device, *inputs, location_gradients=location_gradients, deterministic=deterministic
        )


def launch_on_device(launch: Launch) -> None:
    """The launcher for torch's current device and stream."""
    variant, kernel, grid, block, shared_bytes, arguments, _ = launch
    modules().launch(variant.name, variant.defines, kernel, grid, block, shared_bytes, arguments)


def run_forward(
    launch: Launcher,
    value: Tensor,
    levels: Levels,
    frames: Frames,
    reference: Tensor | None,
    coordinates: Tensor,
    scores: Tensor,
) -> Tensor:
    """`forward` through any launcher."""
    output = value.new_empty((*scores.shape[:3], value.shape[3] * value.shape[4]))
    if output.numel() == 0:
        return output
    value, coordinates, scores = (_packed(tensor) for tensor in (value, coordinates, scores))
    arguments = arguments_for(value, reference, scores)
    tensors = point(arguments, value=value, coordinates=coordinates, scores=scores, reference=reference, output=output)
    variant, form = variant_for(value, "forward"), "plain" if reference is None else "fused"
    grid = row_grid(variant, arguments)
    launch_rows(launch, variant, f"forward_{form}", arguments, grid, (levels, frames), tensors)
    return output


def run_backward(
    launch: Launcher,
    grad_output: Tensor,
    value: Tensor,
    levels: Levels,
    frames: Frames,
    reference: Tensor | None,
    coordinates: Tensor,
    scores: Tensor,
    *,
    location_gradients: bool,
    deterministic: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`backward` through any launcher."""
    if grad_output.numel() == 0:
        return torch.zeros_like(value), torch.zeros_like(coordinates), torch.zeros_like(scores)
    grad_output, value, coordinates, scores = (_packed(tensor) for tensor in (grad_output, value, coordinates, scores))
    grad_coordinates, grad_scores = torch.empty_like(coordinates), torch.empty_like(scores)
    arguments = arguments_for(value, reference, scores)
    arguments.location_gradients = int(location_gradients)
    tensors = point(arguments, upstream=grad_output, value=value, coordinates=coordinates, scores=scores)
    tensors += point(arguments, reference=reference, grad_coordinates=grad_coordinates, grad_scores=grad_scores)
    variant, form = variant_for(value, "deterministic" if deterministic else "backward"), "plain"
    grid = row_grid(variant, arguments)
    if reference is not None:
        form, grid = "fused", row_grid(variant, arguments, arguments.points_per_row)
        # Between the passes over a row's points. In float32 the gradient's own memory will do.
        wide = value.dtype == torch.float32 or grid.keeps
        tensors += point(arguments, kept=grad_scores if wide else torch.empty_like(scores, dtype=torch.float32))
    rows = (arguments, grid, (levels, frames))
    if not deterministic:
        sums = torch.zeros_like(value, dtype=torch.float32)
        launch_rows(launch, variant, f"backward_{form}", *rows, (*tensors, *point(arguments, grad_value=sums)))
        return sums.to(value.dtype), grad_coordinates, grad_scores
    sums, grad_value = torch.zeros_like(value, dtype=torch.int64), torch.zeros_like(value)
    peaks = _find_peaks(launch, variant, grad_output, scores if reference is None else None)
    # What is not finite has no place among the integers and is marked in the gradient itself.
    tensors += point(arguments, grad_value=sums, output=grad_value, peaks=peaks)
    launch_rows(launch, variant, f"backward_{form}_deterministic", *rows, tensors)
    _settle(launch, variant, sums, grad_value, peaks, arguments.contributions_exponent)
    return grad_value, grad_coordinates, grad_scores


def _packed(tensor: Tensor) -> Tensor:
    """Contiguous, at an address that allows loads of 16 bytes."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def _find_peaks(launch: Launcher, variant: Variant, grad_output: Tensor, weights: Tensor | None) -> Tensor:
    """Largest finite |grad_output| and |weight| (1 for a softmax), on the device: nobody waits for them."""
    peaks = torch.zeros(2, device=grad_output.device)
    if weights is None:
        peaks[1:].fill_(1.0)
    for place, tensor in enumerate([grad_output] if weights is None else [grad_output, weights]):
        arguments = PeakArguments(tensor.data_ptr(), tensor.numel(), peaks.data_ptr() + 4 * place)
        launch(Launch(variant, "find_peak", _flat_grid(tensor), 256, 0, arguments, (tensor, peaks)))
    return peaks


def _settle(
    launch: Launcher, variant: Variant, sums: Tensor, gradient: Tensor, peaks: Tensor, contributions_exponent: int
) -> None:
    arguments = SettleArguments(
        sums.data_ptr(), gradient.data_ptr(), sums.numel(), peaks.data_ptr(), contributions_exponent
    )
    launch(Launch(variant, "settle", _flat_grid(sums), 256, 0, arguments, (sums, gradient, peaks)))


def _flat_grid(tensor: Tensor) -> int:
    return min(-(-tensor.numel() // 256), 4096)
