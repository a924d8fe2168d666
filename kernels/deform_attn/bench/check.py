"""Correctness before speed: the error law of the operator, for the output and all gradients."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from vislab.ops.reference import deform_attn_fused_reference, deform_attn_reference

from .cases import Case, Inputs
from .forms import Run

NAMES = ("output", "gradient of value", "gradient of coordinates", "gradient of scores")
# The definition in float64 visits at most this many points, so that a check takes seconds also for an encoder.
CHECKED_POINTS = 400_000


class WrongResultError(Exception):
    """A competitor's error is above the law; the message is one sentence."""


def with_gradients(run: Run, inputs: Inputs, upstream: Tensor) -> tuple[Tensor, ...]:
    """The output, and the gradients of value, coordinates and scores."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs[:3]]
    output = run(inputs.with_leaves(*leaves))
    return output.detach(), *torch.autograd.grad(output, leaves, upstream)


@dataclass(frozen=True)
class Expectation:
    """What any path must give for some inputs, and the error it may have.

    The competitor runs at full size, on the very call that is timed. Its upstream gradient is zero but for `queries`,
    evenly spread: so outputs and gradients of those queries, and the whole gradient of value, can be compared with a
    definition that has those queries only.
    """

    inputs: Inputs
    upstream: Tensor
    queries: Tensor
    exact: tuple[Tensor, ...]
    allowed: tuple[Tensor, ...]

    @property
    def extent(self) -> str:
        """How much of the case is compared."""
        return f"output and gradients of {len(self.queries)} of {self.inputs.scores.shape[2]} queries of every frame"

    def check(self, name: str, run: Run) -> None:
        """Raise WrongResultError where `run` breaks the law: twice the definition's error, plus a few roundings."""
        results = with_gradients(run, self.inputs, self.upstream)
        for kind, result, exact, allowed in zip(NAMES, results, self.exact, self.allowed, strict=True):
            if kind == "gradient of value":
                error = (result - exact).abs().max()
            else:
                error = (result.index_select(2, self.queries) - exact).abs().max()
            if not error <= allowed:
                raise WrongResultError(f"{name}: the {kind} is off by {error:.2e}, allowed are {allowed:.2e}")
            elsewhere = kind.startswith("gradient of c") or kind.startswith("gradient of s")
            if elsewhere and result.index_fill(2, self.queries, 0).any():
                raise WrongResultError(f"{name}: the {kind} is not zero where no gradient came in")


def expectation(case: Case, inputs: Inputs) -> Expectation:
    """The float64 definition on some queries of `inputs` (all of them where they are few)."""
    device, dtype = inputs.value.device, inputs.value.dtype
    points = prod(case.layout) // max(1, case.num_queries)
    count = min(case.num_queries, max(1, CHECKED_POINTS // points))
    queries = torch.linspace(0, case.num_queries - 1, count).round().long().to(device)
    shape = (case.batch, case.frames, case.num_queries, case.heads * case.channels)
    random = torch.randn(*shape[:2], count, shape[3], generator=torch.Generator().manual_seed(1)).to(device, dtype)
    upstream = torch.zeros(shape, device=device, dtype=dtype).index_copy(2, queries, random)
    few = inputs.at(queries)
    exact = with_gradients(_plain_definition, few.to(device, torch.float64), random.double())
    rough = with_gradients(_plain_definition, few, random)
    rounding = 4 * torch.finfo(dtype).eps
    allowed = tuple(
        2 * (ours - truth).abs().max() + rounding * truth.abs().max() for ours, truth in zip(rough, exact, strict=True)
    )
    return Expectation(inputs, upstream, queries, exact, allowed)


def _plain_definition(inputs: Inputs) -> Tensor:
    """Straight from vislab.ops.reference, without the steps in torch that the competitors share."""
    index = (inputs.spatial_shapes, inputs.frame_index)
    if inputs.reference is None:
        return deform_attn_reference(inputs.value, *index, inputs.coordinates, inputs.scores)
    return deform_attn_fused_reference(inputs.value, *index, inputs.reference, inputs.coordinates, inputs.scores)
