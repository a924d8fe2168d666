"""The CUDA kernels: their arithmetic by emulation on the host, and on a device where there is one (mark `cuda`)."""

from __future__ import annotations

import ctypes
import math
import random
from typing import NamedTuple

import cuda_on_host
import pytest
import torch
from attention_cases import make_case
from cuda_on_host import Emulator
from torch import Tensor

from vislab.ops import cuda, cuda_launch, native
from vislab.ops.reference import (
    deform_attn_fused_reference,
    deform_attn_fused_reference_backward,
    deform_attn_reference,
    deform_attn_reference_backward,
)

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
BUILDS = [(F32, 3), (F32, 8), (F32, 16), (F32, 32), (F32, 64), (BF16, 8), (BF16, 32), (BF16, 65), (F16, 16), (F16, 64)]
OTHER_BUILDS = [(BF16, 16), (BF16, 64), (F16, 1), (F16, 8), (F16, 32)]


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    try:
        native.find_compiler()
    except native._NoKernelError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def nan_filled():
    """Fresh memory holds NaN, so that an element that nobody writes shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Problem(NamedTuple):
    """Inputs of either form: plain if there is no reference."""

    upstream: Tensor
    value: Tensor
    levels: tuple[tuple[int, int], ...]
    frames: tuple[tuple[int, ...], ...]
    reference: Tensor | None
    coordinates: Tensor
    scores: Tensor

    @property
    def inputs(self) -> tuple:
        return self[1:]

    def on(self, device: str) -> Problem:
        return Problem(*(part.to(device) if isinstance(part, Tensor) else part for part in self))


def plain(seed: int, **options) -> Problem:
    case = make_case(seed, **options)
    return _problem(seed, case.value, case.spatial_shapes, case.frame_index, None, *case[3:])


def fused(seed: int, *, boxes: bool = False, shared_reference: bool = False, **options) -> Problem:
    """Offsets of some pixels around random references; `shared_reference`: one for all frames (strides of zero)."""
    value, shapes, index, places, scores = make_case(seed, **options)
    batch, frames, queries, _, sources, levels = scores.shape[:6]
    generator = torch.Generator().manual_seed(seed)
    grid = (batch, 1, queries, 1, levels) if shared_reference else (batch, frames, queries, sources, levels)
    reference = torch.rand(*grid, 4 if boxes else 2, generator=generator) * 1.2 - 0.1
    reference = reference.expand(batch, frames, queries, sources, levels, -1)
    return _problem(seed, value, shapes, index, reference, 4 * (places - 0.5), 2 * scores)


def _problem(seed: int, value: Tensor, shapes: Tensor, index: Tensor, reference: Tensor | None, *grid: Tensor):
    size = (*grid[1].shape[:3], value.shape[3] * value.shape[4])
    upstream = torch.randn(size, generator=torch.Generator().manual_seed(seed + 1)).to(value)
    levels, frames = (tuple(tuple(row) for row in table.tolist()) for table in (shapes, index))
    return Problem(upstream, value, levels, frames, reference, *grid)


def definition(problem: Problem, dtype: torch.dtype, location_gradients: bool = False) -> list[Tensor]:
    """Output and gradients by the definition, computed in a dtype."""
    shapes, index = torch.tensor(problem.levels), torch.tensor(problem.frames)
    upstream, value, coordinates, scores = (
        tensor.to(dtype) for tensor in (problem.upstream, problem.value, problem.coordinates, problem.scores)
    )
    if problem.reference is None:
        inputs = (value, shapes, index, coordinates, scores)
        return [deform_attn_reference(*inputs), *deform_attn_reference_backward(upstream, *inputs)]
    inputs = (value, shapes, index, problem.reference, coordinates, scores)
    grads = deform_attn_fused_reference_backward(upstream, *inputs, location_gradients)
    return [deform_attn_fused_reference(*inputs), *grads]


def emulated(problem: Problem, *, seed: int = 0, location_gradients: bool = False, deterministic: bool = False):
    """Output and gradients by the kernels on the host."""
    flags = {"location_gradients": location_gradients, "deterministic": deterministic}
    output = cuda.run_forward(Emulator(seed), *problem.inputs)
    return [output, *cuda.run_backward(Emulator(seed), *problem, **flags)]


def assert_error_law(ours: list[Tensor], problem: Problem, location_gradients: bool = False) -> None:
    """Errors are at most twice those of the definition in the same dtype, up to some roundings of the largest."""
    dtype = problem.value.dtype
    theirs = definition(problem, dtype, location_gradients)
    exact = definition(problem, torch.float64, location_gradients)
    for name, mine, other, truth in zip(("output", "value", "coordinates", "scores"), ours, theirs, exact, strict=True):
        assert mine.dtype == dtype and mine.shape == other.shape and mine.isfinite().all(), name
        if truth.numel():
            slack = 4 * torch.finfo(dtype).eps * truth.abs().max()
            assert (mine - truth).abs().max() <= 2 * (other - truth).abs().max() + slack, name


def small(channels: int) -> dict:
    """Sizes that leave some warps half empty and take several chunks of points."""
    return {"channels": channels, "batch": 1 if channels in (1, 3, 65) else 2, "frames": 2, "queries": 7, "wild": True}


def check_build(dtype: torch.dtype, channels: int) -> None:
    problem = plain(channels, dtype=dtype, **small(channels))
    assert_error_law(emulated(problem), problem)
    assert_error_law(emulated(problem, seed=1, deterministic=True), problem)
    for seed, boxes in enumerate((False, True)):
        problem = fused(seed, boxes=boxes, shared_reference=bool(seed), dtype=dtype, **small(channels))
        assert_error_law(emulated(problem, seed=seed), problem)
    assert_error_law(emulated(problem, deterministic=True, location_gradients=True), problem, True)


@pytest.mark.parametrize(("dtype", "channels"), BUILDS)
def test_error_law(dtype: torch.dtype, channels: int) -> None:
    check_build(dtype, channels)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "channels"), OTHER_BUILDS)
def test_error_law_of_the_other_builds(dtype: torch.dtype, channels: int) -> None:
    check_build(dtype, channels)


def random_sizes(seed: int) -> dict:
    choose = random.Random(seed)
    shapes = tuple((choose.randint(1, 7), choose.randint(1, 7)) for _ in range(choose.choice([1, 1, 2, 3, 4, 8])))
    return {
        "shapes": shapes,
        "batch": choose.randint(1, 2),
        "frames": choose.choice([1, 2, 3, 5]),
        "queries": choose.choice([0, 1, 2, 7, 20, 37]),
        "heads": choose.choice([1, 2, 3, 8]),
        "channels": choose.choice([8, 16, 32, 64]),
        "sources": choose.randint(1, 4),
        "points": choose.randint(1, 5),
        "wild": choose.random() < 0.7,
    }


@pytest.mark.parametrize("seed", range(10))
def test_error_law_on_random_sizes(seed: int) -> None:
    problem = plain(seed, **random_sizes(seed)) if seed % 2 else fused(seed, boxes=seed % 4 == 0, **random_sizes(seed))
    assert_error_law(emulated(problem, seed=seed, deterministic=seed % 3 == 0), problem)


@pytest.mark.parametrize("channels", [1, 65])
def test_other_numbers_of_channels(channels: int) -> None:
    problem = plain(1, channels=channels, batch=1, frames=1, queries=3, points=2, wild=True)
    assert_error_law(emulated(problem), problem)


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_more_points_than_shared_memory_keeps(dtype: torch.dtype) -> None:
    sizes = {"batch": 1, "frames": 2, "queries": 2, "heads": 1, "channels": 32, "sources": 40, "points": 20}
    problem = fused(2, dtype=dtype, **sizes)
    launcher = Emulator()
    flags = {"location_gradients": False, "deterministic": False}
    grads = cuda.run_backward(launcher, *problem, **flags)
    room = launcher.log[0].shared_bytes // (launcher.log[0].block // 32) // 4
    assert room < problem.scores.shape[4:].numel(), "not in shared memory"
    assert_error_law([cuda.run_forward(launcher, *problem.inputs), *grads], problem)


def test_a_table_that_does_not_fit_into_the_arguments() -> None:
    problem = plain(3, batch=1, frames=29, queries=1, heads=1, channels=64, sources=29, points=1, shapes=((3, 2),))
    launcher = Emulator()
    output = cuda.run_forward(launcher, *problem.inputs)
    assert [launch.kernel for launch in launcher.log] == ["write_table", "write_table", "forward_plain"]
    assert torch.equal(output, definition(problem, F32)[0]) or (output - definition(problem, F32)[0]).abs().max() < 1e-5


def test_blocks_take_several_turns_when_the_grid_is_limited(monkeypatch) -> None:
    problem = fused(4, queries=40, channels=64, wild=True)
    expected = emulated(problem, deterministic=True)
    monkeypatch.setattr(cuda_launch, "LARGEST_GRID", 3)
    for ours, theirs in zip(emulated(problem, deterministic=True), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("make", [plain, fused])
def test_no_queries(make) -> None:
    output, grad_value, *_ = emulated(make(5, queries=0, channels=32))
    assert output.shape == (2, 3, 0, 64) and not grad_value.any()


@pytest.mark.parametrize("make", [plain, fused])
def test_all_frames_absent(make) -> None:
    problem = make(6, channels=32, sources=2)._replace(frames=((-1, -1),) * 3)
    assert not any(result.any() or result.isnan().any() for result in emulated(problem))


def test_one_frame_absent_everywhere() -> None:
    problem = fused(7, channels=32, sources=3)._replace(frames=((0, -1, 1), (1, -1, -1), (-1, -1, -1)))
    results = emulated(problem)
    assert_error_law(results, problem)
    assert not any(gradient[:, :, :, :, 1].any() for gradient in results[2:])


def test_logits_of_minus_infinity_and_nan() -> None:
    problem = fused(8, channels=32, sources=1)._replace(frames=((0,), (1,), (2,)))
    logits = problem.scores.clone()
    logits[0, 0, 0] = -math.inf
    logits[0, 1, 0, 0, 0, 0, 0] = -math.inf
    results = emulated(problem._replace(scores=logits))
    assert_error_law(results, problem._replace(scores=logits))
    assert not results[0][0, 0, 0].any()
    logits[1, 2, 3, 1] = math.nan
    heads = cuda.run_forward(Emulator(), *problem._replace(scores=logits).inputs).unflatten(-1, (2, 32))
    assert heads[1, 2, 3, 1].isnan().all() and heads.isnan().sum() == 32


def test_pixel_centres_have_the_gradient_of_the_definition() -> None:
    # The derivative jumps there: both must round the position alike and take the same side.
    problem = plain(9, sources=1, shapes=((12, 20),), queries=20, channels=32)
    centres = (torch.randint(0, 12, problem.coordinates.shape) + 0.5) / torch.tensor([20.0, 12.0])
    for form in (problem._replace(coordinates=centres), _offsets_to_centres(problem)):
        for ours, theirs in zip(emulated(form), definition(form, F32), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-5)


def _offsets_to_centres(problem: Problem) -> Problem:
    reference = (torch.randint(0, 12, (*problem.scores.shape[:3], 1, 1, 2)) + 0.5) / torch.tensor([20.0, 12.0])
    return problem._replace(reference=reference, coordinates=problem.coordinates.mul(9).round())


@pytest.mark.parametrize("make", [plain, fused])
@pytest.mark.parametrize(("dtype", "channels"), [(F32, 32), (BF16, 8), (F32, 3)])
def test_deterministic_mode_has_the_same_bits_in_any_order(make, dtype: torch.dtype, channels: int) -> None:
    sizes = {"shapes": ((2, 2), (1, 1)), "queries": 9, "batch": 1, "channels": channels, "dtype": dtype}
    problem = make(10, **sizes)
    results = [emulated(problem, seed=seed, deterministic=True) for seed in (0, 1, 2)]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    if dtype == F32:
        ordinary = [emulated(problem, seed=seed)[1] for seed in (0, 1)]
        assert not torch.equal(*ordinary), "the seeds do change the order"


@pytest.mark.parametrize("upstream_size", [1e-37, 1e-20, 1.0, 1e15])
@pytest.mark.parametrize("weight_size", [1e-20, 1e18])
def test_deterministic_mode_covers_the_range_of_floats(upstream_size: float, weight_size: float) -> None:
    problem = plain(11, channels=32, queries=9, shapes=((2, 2),))
    problem = problem._replace(upstream=problem.upstream * upstream_size, scores=problem.scores * weight_size)
    ours, truth = emulated(problem, deterministic=True)[1], definition(problem, torch.float64)[1]
    assert ((ours - truth).abs() <= 1e-5 * truth.abs().max() + 1e-44).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("make", [plain, fused])
def test_what_is_not_finite_stays_so_in_deterministic_mode(make, bad: float) -> None:
    problem = make(12, channels=32, shapes=((4, 6),))
    upstream = problem.upstream.clone()
    upstream[0, 1, 2, 5] = bad
    grads = [emulated(problem._replace(upstream=upstream), deterministic=flag)[1] for flag in (False, True)]
    broken = [~grad.isfinite() for grad in grads]
    assert broken[0].any() and torch.equal(*broken)
    torch.testing.assert_close(grads[1][~broken[1]], grads[0][~broken[0]])


def test_inputs_that_are_not_contiguous_or_not_aligned() -> None:
    problem = fused(13, channels=32, sources=2)
    expected = emulated(problem, deterministic=True)
    strided = Problem(*(_strided(part) if isinstance(part, Tensor) else part for part in problem))
    shifted = Problem(*(_shifted(part) if isinstance(part, Tensor) else part for part in problem))
    assert not strided.value.is_contiguous() and shifted.value.data_ptr() % 16
    for other in (strided, shifted):
        for ours, theirs in zip(emulated(other, deterministic=True), expected, strict=True):
            assert torch.equal(ours, theirs)


def _strided(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def _shifted(tensor: Tensor) -> Tensor:
    return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)


def test_structures_are_laid_out_as_the_compiler_does() -> None:
    mirrors = (
        cuda_launch.Arguments,
        cuda_launch.TableArguments,
        cuda_launch.PeakArguments,
        cuda_launch.SettleArguments,
    )
    sizes = [cuda_on_host.library(32, 32).bytes_of_arguments(which) for which in range(len(mirrors))]
    assert sizes == [ctypes.sizeof(mirror) for mirror in mirrors] and max(sizes) <= 4096


def test_division_by_multiplication_is_exact() -> None:
    numbers = random.Random(0)
    for divisor in [*range(1, 300), *(numbers.randrange(1, 2**31) for _ in range(300)), 2**31 - 1]:
        by = cuda_launch.divider(divisor)
        for n in [0, 1, divisor - 1, divisor, 2**31 - 1, *(numbers.randrange(2**31) for _ in range(20))]:
            assert n * by.multiplier >> by.shift == n // divisor
            assert n * by.multiplier < 2**64


def test_the_emulation_notices_accesses_outside_the_arrays() -> None:
    problem = plain(14, channels=32)
    launches = Emulator()
    cuda.run_forward(launches, *problem.inputs)
    (launch,) = launches.log
    for missing in range(len(launch.tensors)):
        tensors = launch.tensors[:missing] + launch.tensors[missing + 1 :]
        with pytest.raises(AssertionError, match="outside the announced arrays"):
            Emulator()(launch._replace(tensors=tensors))
    with pytest.raises(AssertionError, match="shared memory"):
        Emulator()(launch._replace(shared_bytes=launch.shared_bytes - 64))


def test_obstacles_are_named() -> None:
    value = torch.zeros(1, 1, 4, 1, 8)
    assert cuda.obstacle(value) == "value is on cpu"
    if not torch.cuda.is_available():
        kernel = cuda.cuda_kernel()
        assert not kernel.live and ("no CUDA" in kernel.reason)


# ------------------------------------------------------------------------------------------------------ with a device

on_a_device = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def on_device(problem: Problem, *, location_gradients: bool = False, deterministic: bool = False) -> list[Tensor]:
    flags = {"location_gradients": location_gradients, "deterministic": deterministic}
    moved = problem.on("cuda")
    assert cuda.obstacle(moved.value) is None
    results = [cuda.forward(*moved.inputs), *cuda.backward(*moved, **flags)]
    return [result.cpu() for result in results]


class TestOnDevice:
    pytestmark = on_a_device

    @pytest.mark.parametrize("dtype", [F32, BF16, F16])
    @pytest.mark.parametrize("channels", [1, 3, 8, 16, 32, 64, 65])
    def test_error_law(self, dtype: torch.dtype, channels: int) -> None:
        problem = plain(channels, dtype=dtype, channels=channels, queries=70, wild=True)
        for deterministic in (False, True):
            assert_error_law(on_device(problem, deterministic=deterministic), problem)
        for seed, boxes in enumerate((False, True)):
            problem = fused(seed, boxes=boxes, shared_reference=boxes, dtype=dtype, channels=channels, queries=70)
            assert_error_law(on_device(problem), problem)

    @pytest.mark.parametrize("seed", range(60))
    def test_error_law_on_random_sizes(self, seed: int) -> None:
        make = plain if seed % 2 else fused
        problem = make(seed, **random_sizes(seed))
        assert_error_law(on_device(problem, deterministic=seed % 3 == 0), problem)

    @pytest.mark.parametrize("make", [plain, fused])
    def test_large_tables_and_many_points(self, make) -> None:
        problem = make(1, batch=1, frames=29, queries=3, heads=1, channels=32, sources=29, points=8)
        assert_error_law(on_device(problem), problem)

    def test_same_bits_in_deterministic_mode(self) -> None:
        problem = fused(2, queries=900, heads=8, channels=32, shapes=((3, 3), (1, 1)), points=4)
        first = on_device(problem, deterministic=True)
        for _ in range(5):
            assert all(torch.equal(a, b) for a, b in zip(first, on_device(problem, deterministic=True), strict=True))

    def test_agrees_with_the_emulation(self) -> None:
        problem = fused(3, channels=32, queries=20, wild=True)
        pairs = zip(on_device(problem, deterministic=True), emulated(problem, deterministic=True), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    def test_runs_on_the_callers_stream(self) -> None:
        problem = plain(4, channels=32, queries=300).on("cuda")
        expected = cuda.forward(*problem.inputs)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10_000_000)
            value = problem.value * 1  # written behind the sleep: read too early, it is something else
            output = cuda.forward(value, *problem.inputs[1:])
        stream.synchronize()
        assert torch.equal(output, expected)

    @pytest.mark.parametrize("deterministic", [False, True])
    def test_can_be_captured_in_a_graph(self, deterministic: bool) -> None:
        problem = fused(5, channels=32, queries=60).on("cuda")
        flags = {"location_gradients": False, "deterministic": deterministic}
        cuda.forward(*problem.inputs), cuda.backward(*problem, **flags)  # compiles and loads
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = [cuda.forward(*problem.inputs), *cuda.backward(*problem, **flags)]
        problem.value.copy_(torch.randn_like(problem.value))
        graph.replay()
        for ours, theirs in zip(
            captured, [cuda.forward(*problem.inputs), *cuda.backward(*problem, **flags)], strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    def test_inputs_that_are_not_contiguous_or_not_aligned(self) -> None:
        problem = fused(6, channels=32, sources=2).on("cuda")
        expected = cuda.forward(*problem.inputs)
        for change in (_strided, _shifted):
            other = Problem(*(change(part) if isinstance(part, Tensor) else part for part in problem))
            assert torch.equal(cuda.forward(*other.inputs), expected)

    def test_beyond_32_bits(self) -> None:
        tokens = 2**31 // (8 * 32) + 1000  # of one frame: more than 2^31 numbers
        if torch.cuda.mem_get_info()[0] < 20 * 2**30:
            pytest.skip("needs 20 GiB of device memory")
        value = torch.zeros(1, 1, tokens, 8, 32, dtype=F16, device="cuda")
        value[0, 0, -1] = 1
        grid = (1, 1, 1, 8, 1, 1, 1)
        locations = torch.tensor([0.5, 1 - 0.5 / tokens]).expand(*grid, 2).half().float()
        reference = torch.tensor([0.5, 1 - 0.5 / tokens], device="cuda").expand(1, 1, 1, 1, 1, 2)
        offsets, logits = (torch.zeros(size, dtype=F16, device="cuda") for size in (locations.shape, grid))
        output = cuda.forward(value, ((tokens, 1),), ((0,),), reference, offsets, logits)
        assert output.float().min() > 0.4
