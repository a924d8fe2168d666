"""Times the paths of `deform_attn` against each other, after checking that they agree.

    make bench        or: python kernels/deform_attn/bench.py [--threads 1 2] [--rounds 9]

Competitors run in turn inside one process, round by round, so that a drift of the machine's speed meets all of them;
medians are reported, and the ratio to the reference is the median of the ratios of each round. The reference is the
grid_sample form that the field's code uses where its CUDA extension does not build. Nothing is timed if a path's error
against the float64 definition is more than twice that of the float32 definition.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from vislab.ops import deform_attn
from vislab.ops.native import native_kernel

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
LEVELS = [(12, 20), (6, 10), (3, 5)]  # an image of 96 x 160 at strides 8, 16 and 32
# name -> (batch, frames, queries, source frames), all with 4 heads of 32 channels and 4 points
CASES = {
    "tiny encoder, own frame": (2, 5, 315, 1),
    "tiny encoder, 4 neighbours": (2, 5, 315, 4),
    "tiny decoder": (2, 5, 15, 1),
}


def make_inputs(batch: int, frames: int, queries: int, sources: int, heads: int = 4, channels: int = 32) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    tokens = sum(height * width for height, width in LEVELS)
    value = torch.randn(batch, frames, tokens, heads, channels, generator=generator)
    frame_index = (torch.arange(frames)[:, None] + torch.arange(sources)) % frames
    layout = (batch, frames, queries, heads, sources, len(LEVELS), 4)
    locations = torch.rand(*layout, 2, generator=generator) * 1.2 - 0.1
    weights = torch.rand(layout, generator=generator).flatten(-3).softmax(-1).view(layout)
    return value, torch.tensor(LEVELS), frame_index, locations, weights


def grid_sample_form(value: Tensor, shapes: Tensor, frame_index: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """One grid_sample per level and source frame; frames are gathered, as published code does."""
    batch, frames, _, heads, channels = value.shape
    queries = locations.shape[2]
    sizes = [int(size) for size in shapes.prod(1)]
    output: Tensor | float = 0.0
    for source in range(frame_index.shape[1]):
        gathered = value[:, frame_index[:, source]].split(sizes, dim=2)
        for level, (height, width) in enumerate(shapes.tolist()):
            image = gathered[level].permute(0, 1, 3, 4, 2).reshape(-1, channels, height, width)
            grid = 2 * locations[:, :, :, :, source, level].transpose(2, 3).flatten(0, 2) - 1
            samples = functional.grid_sample(image, grid, align_corners=False)
            weight = weights[:, :, :, :, source, level].transpose(2, 3).flatten(0, 2)[:, None]
            output = output + (samples * weight).sum(-1)
    assert isinstance(output, Tensor)
    return output.view(batch, frames, heads, channels, queries).permute(0, 1, 4, 2, 3).flatten(3)


def paths() -> dict[str, Callable[..., Tensor]]:
    """Competitors by name, the reference first."""
    found: dict[str, Callable[..., Tensor]] = {
        "grid_sample": grid_sample_form,
        "definition": lambda *inputs: deform_attn(*inputs, backend="reference"),
    }
    if native_kernel().library is not None:
        found["native"] = lambda *inputs: deform_attn(*inputs, backend="cpu")
    return found


def check(name: str, path: Callable[..., Tensor], inputs: Inputs) -> None:
    """The error law of the op: at most twice the error of the definition in the same dtype."""
    value, shapes, frame_index, locations, weights = inputs
    exact = deform_attn(value.double(), shapes, frame_index, locations.double(), weights.double(), backend="reference")
    allowed = 2 * (deform_attn(*inputs, backend="reference") - exact).abs().max() + 1e-6
    error = (path(*inputs) - exact).abs().max()
    if error > allowed:
        raise SystemExit(f"{name} is wrong: error {error:.2e}, allowed {allowed:.2e}; nothing was timed")


def seconds(path: Callable[..., Tensor], inputs: Inputs, backward: bool) -> float:
    value, shapes, frame_index, locations, weights = inputs
    leaves = [tensor.detach().requires_grad_(backward) for tensor in (value, locations, weights)]
    start = time.perf_counter()
    output = path(leaves[0], shapes, frame_index, leaves[1], leaves[2])
    if backward:
        output.sum().backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the deformable attention paths on the CPU, as ratios.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds, after two warm-ups (default: 9)")
    options = parser.parse_args()
    table = Table("case", "threads", "pass", "path", "median ms", "ratio to grid_sample")
    for case, sizes in CASES.items():
        inputs = make_inputs(*sizes)
        for name, path in paths().items():
            check(name, path, inputs)
        for threads in options.threads:
            torch.set_num_threads(threads)
            for backward in (False, True):
                add_rows(table, case, threads, backward, inputs, options.rounds)
    console = Console()
    console.width = max(console.width, 110)
    console.print(table)


def add_rows(table: Table, case: str, threads: int, backward: bool, inputs: Inputs, rounds: int) -> None:
    competitors = paths()
    times = [{name: seconds(path, inputs, backward) for name, path in competitors.items()} for _ in range(rounds + 2)]
    for name in competitors:
        median = statistics.median(turn[name] for turn in times[2:])
        ratio = statistics.median(turn["grid_sample"] / turn[name] for turn in times[2:])
        kind = "forward + backward" if backward else "forward"
        table.add_row(case, str(threads), kind, name, f"{1000 * median:.1f}", f"{ratio:.1f}")


if __name__ == "__main__":
    main()
