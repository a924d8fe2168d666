"""From "the loss is NaN" to the loss, the layer and the videos that it came from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vislab.errors import UserError


class TrainingError(UserError):
    """Training cannot go on: a loss or a gradient is not finite."""


def explain_non_finite(
    model: nn.Module,
    criterion: nn.Module,
    losses: Mapping[str, Tensor],
    step: int,
    video_names: Iterable[str],
    replay: Callable[[], Any],
) -> TrainingError:
    """The error to raise for a step whose losses or gradients are NaN or infinite.

    losses: scalars by name. replay: repeats the forward and backward passes of the step, with equal random numbers, so
    that the first layer to go wrong can be watched.
    """
    wrong = [name for name, value in losses.items() if not torch.isfinite(value)]
    what = f"loss {', '.join(wrong)} is not finite" if wrong else "losses are finite but the gradient is not"
    place = _bad_parameter(model, criterion)
    if place is None:
        with watch_layers(model, criterion) as found:
            replay()
        place = found[0] if found else "no layer stands out: the losses' own arithmetic"
    videos = ", ".join(video_names) or "unknown"
    return TrainingError(f"training stopped at step {step}: {what}; first at {place}; videos: {videos}")


@contextlib.contextmanager
def watch_layers(model: nn.Module, criterion: nn.Module) -> Iterator[list[str]]:
    """Within the block, the list collects layers whose output or parameter gradient is not finite, first one first."""
    found: list[str] = []
    handles = []
    for name, module in _named(model.named_modules(), criterion.named_modules()):
        handles.append(module.register_forward_hook(_output_hook(name or "the model", found)))
    for name, parameter in _named(model.named_parameters(), criterion.named_parameters()):
        if parameter.requires_grad:
            handles.append(parameter.register_post_accumulate_grad_hook(_gradient_hook(name, found)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _output_hook(name: str, found: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in _floating(output)):
            found.append(f"the output of layer {name} ({type(module).__name__})")

    return hook


def _gradient_hook(name: str, found: list[str]) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            found.append(f"the gradient of {name}")

    return hook


def _bad_parameter(model: nn.Module, criterion: nn.Module) -> str | None:
    for name, parameter in _named(model.named_parameters(), criterion.named_parameters()):
        if not torch.isfinite(parameter).all():
            return f"parameter {name}"
    return None


def _named(of_model: Iterable[tuple[str, Any]], of_criterion: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    yield from of_model
    for name, item in of_criterion:
        yield f"criterion.{name}".rstrip("."), item


def _floating(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in a layer's output: a tensor, or tuples, lists and dictionaries of them."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        yield from _floating(list(output.values()))
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _floating(item)
