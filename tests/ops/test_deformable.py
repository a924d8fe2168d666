from __future__ import annotations

import random

import pytest
import torch
from attention_cases import Case, make_case, outputs_and_gradients
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vislab.errors import UserError
from vislab.ops import deform_attn, operator
from vislab.ops.native import INSTRUCTION_SETS, instruction_set, native_kernel
from vislab.ops.reference import deform_attn_reference

needs_kernel = pytest.mark.skipif(native_kernel().library is None, reason=f"no native kernel: {native_kernel().reason}")
SUPPORTED = list(INSTRUCTION_SETS)[: list(INSTRUCTION_SETS).index(instruction_set()) + 1]


@pytest.fixture
def nan_filled():
    """Fresh memory holds NaN, so that an element that nobody writes shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def assert_error_law(case: Case) -> None:
    """The kernel's error is at most twice the float32 definition's, up to a few roundings of the largest number."""
    native = outputs_and_gradients(deform_attn, case, backend="cpu")
    plain = outputs_and_gradients(deform_attn_reference, case)
    exact = outputs_and_gradients(deform_attn_reference, case.to(torch.float64))
    names = ("output", "value", "locations", "weights")
    for name, ours, theirs, truth in zip(names, native, plain, exact, strict=True):
        assert ours.isfinite().all(), name
        if truth.numel():
            slack = 4 * torch.finfo(torch.float32).eps * truth.abs().max()
            assert (ours - truth).abs().max() <= 2 * (theirs - truth).abs().max() + slack, name


def random_case(seed: int) -> Case:
    choose = random.Random(seed)
    shapes = tuple((choose.randint(1, 7), choose.randint(1, 7)) for _ in range(choose.choice([1, 1, 2, 3, 4, 8])))
    return make_case(
        seed,
        batch=choose.randint(1, 2),
        frames=choose.choice([1, 2, 3, 5, 36]),
        queries=choose.choice([0, 1, 2, 7, 20]),
        heads=choose.choice([1, 2, 3, 4, 8]),
        channels=choose.choice([1, 2, 3, 8, 16, 32, 64, 65]),
        sources=choose.randint(1, 4),
        shapes=shapes,
        points=choose.randint(1, 4),
        wild=choose.random() < 0.7,
    )


@needs_kernel
@pytest.mark.parametrize("part", range(6))
def test_native_kernel_keeps_the_error_law_on_random_shapes(part: int, nan_filled: None) -> None:
    for seed in range(20 * part, 20 * part + 20):
        assert_error_law(random_case(seed))


@needs_kernel
@pytest.mark.parametrize("target", SUPPORTED)
def test_every_instruction_set_keeps_the_error_law(target: str, nan_filled: None, monkeypatch) -> None:
    kernel = native_kernel(target)
    assert kernel.library is not None and kernel.library.vislab_deform_attn_instruction_set() == target.encode()
    monkeypatch.setattr(operator, "native_kernel", lambda: kernel)
    for seed, channels in enumerate((1, 3, 8, 16, 32, 64, 65)):
        assert_error_law(make_case(seed, channels=channels, sources=1 + seed % 2, queries=11, wild=True))


@needs_kernel
def test_pixel_centres_have_the_gradient_of_the_definition() -> None:
    # The derivative jumps there: both paths must round the position alike and take the same side.
    case = make_case(1, sources=1, shapes=((12, 20),), queries=40)
    centres = (torch.randint(0, 20, case.sampling_locations.shape) + 0.5) / torch.tensor([20.0, 12.0])
    case = case._replace(sampling_locations=centres)
    expected = outputs_and_gradients(deform_attn_reference, case)
    for ours, theirs in zip(outputs_and_gradients(deform_attn, case, backend="cpu"), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-5)


@needs_kernel
@pytest.mark.parametrize("sources", [1, 4])
@pytest.mark.parametrize("batch", [1, 4])  # 4: enough frames for one task per frame instead of one per head
def test_same_bits_for_any_number_of_threads(batch: int, sources: int, threads) -> None:
    case = make_case(2, batch=batch, frames=4, queries=60, heads=4, channels=32, sources=sources, points=4, wild=True)
    assert case.attention_weights.numel() * 32 >> 16 >= 2, "large enough to be shared out"
    results = []
    for count in (1, 2, 4):
        threads(count)
        results.append(outputs_and_gradients(deform_attn, case, backend="cpu"))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernel
def test_non_contiguous_inputs() -> None:
    case = make_case(3)
    strided = Case(*(_strided(tensor) if tensor.is_floating_point() else tensor for tensor in case))
    assert not strided.value.is_contiguous()
    torch.testing.assert_close(deform_attn(*strided, backend="cpu"), deform_attn(*case, backend="cpu"), rtol=0, atol=0)


def _strided(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_take_the_definition_and_its_gradients(dtype: torch.dtype) -> None:
    case = make_case(4).to(dtype)
    exact = outputs_and_gradients(deform_attn_reference, case.to(torch.float64))
    expected = outputs_and_gradients(deform_attn_reference, case)
    for ours, theirs, truth in zip(outputs_and_gradients(deform_attn, case), expected, exact, strict=True):
        slack = 4 * torch.finfo(dtype).eps * truth.abs().max()
        assert ours.dtype == dtype and (ours - truth).abs().max() <= 2 * (theirs - truth).abs().max() + slack
    with pytest.raises(UserError, match=r'backend="cpu" cannot run: value is torch\.(float|bfloat)'):
        deform_attn(*case, backend="cpu")


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_no_queries(backend: str) -> None:
    output, grad_value, *_ = outputs_and_gradients(deform_attn, make_case(5, queries=0), backend=backend)
    assert output.shape == (2, 3, 0, 16) and not grad_value.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    value, shapes, index, locations, weights = make_case(6, dtype=dtype)
    leaves = [tensor.requires_grad_() for tensor in (value, locations, weights)]
    torch.library.opcheck(torch.ops.vislab.deform_attn.default, (leaves[0], shapes, index, *leaves[1:], "auto"))
    upstream = torch.randn(2, 3, 5, 16, dtype=dtype)
    arguments = (upstream, value.detach(), shapes, index, locations.detach(), weights.detach(), "auto")
    torch.library.opcheck(torch.ops.vislab.deform_attn_backward.default, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiles_without_a_graph_break(dtype: torch.dtype) -> None:
    compiled = torch.compile(lambda *case: deform_attn(*case) * 2, fullgraph=True, backend="aot_eager")
    case = make_case(7, dtype=dtype)
    expected = outputs_and_gradients(lambda *case: deform_attn(*case) * 2, case)
    for ours, theirs in zip(outputs_and_gradients(compiled, case), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_exports() -> None:
    class Module(torch.nn.Module):
        def forward(self, value, shapes, index, locations, weights):
            return deform_attn(value, shapes, index, locations, weights)

    case = make_case(8)
    exported = torch.export.export(Module(), tuple(case)).module()
    assert torch.equal(exported(*case), deform_attn(*case))


def test_meta_device_and_flops() -> None:
    case = Case(*(tensor.to("meta") for tensor in make_case(9)))
    with FlopCounterMode(display=False) as counter:
        output, *gradients = outputs_and_gradients(deform_attn_on_meta, case)
    assert output.shape == (2, 3, 5, 16)
    assert [gradient.shape for gradient in gradients] == [case[0].shape, case[3].shape, case[4].shape]
    pixels = 4 * 2 * 3 * 5 * 2 * 2 * 3 * 3  # corners, B, T, Q, M, F, L, P
    assert counter.get_total_flops() == 3 * 2 * pixels * 8


def deform_attn_on_meta(*case: Tensor) -> Tensor:
    output = deform_attn(*case)
    assert output.is_meta
    return output


def test_flops_of_a_training_step_without_the_kernel() -> None:
    # The counter is a dispatch mode: the backward runs below it, where autograd is off.
    with FlopCounterMode(display=False) as counter:
        outputs_and_gradients(deform_attn, make_case(9, dtype=torch.float64))
    assert counter.get_total_flops() == 3 * 2 * 4 * 2 * 3 * 5 * 2 * 2 * 3 * 3 * 8


def test_autocast_computes_in_float32() -> None:
    case = make_case(10)
    mixed = case._replace(value=case.value.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = deform_attn(*mixed)
    assert output.dtype == torch.float32
    assert torch.equal(output, deform_attn(*mixed._replace(value=mixed.value.float())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.zeros(2, 3, 31, 16)}, r"value has shape \(2, 3, 31, 16\), expected \(B, T, S, M, D\)"),
        ({"value": torch.zeros(2, 3, 30, 2, 8)}, "spatial_shapes is .*expected .* 30 pixels"),
        ({"value": torch.zeros(2, 3, 31, 2, 8).long()}, "value is torch.int64, expected a floating dtype"),
        ({"spatial_shapes": torch.tensor([4, 6])}, r"spatial_shapes has shape \(2,\), expected \(L, 2\)"),
        ({"spatial_shapes": torch.tensor([[31, 1], [1, 0], [0, 5]])}, "expected positive"),
        ({"spatial_shapes": torch.ones(3, 2)}, "spatial_shapes is torch.float32, expected torch.int64"),
        ({"frame_index": torch.zeros(2, 2).long()}, r"frame_index has shape \(2, 2\), expected \(T=3, F\)"),
        ({"frame_index": torch.full((3, 2), 3)}, "frame_index has entries from 3 to 3, expected -1 .* to 2"),
        ({"frame_index": torch.full((3, 2), -2)}, "frame_index has entries from -2 to -2"),
        ({"sampling_locations": torch.zeros(2, 3, 5, 2, 2, 3, 3)}, "sampling_locations has shape .*expected .*3, 2"),
        ({"sampling_locations": torch.zeros(2, 3, 5, 2, 2, 3, 3, 2).double()}, "sampling_locations is torch.float64"),
        ({"attention_weights": torch.zeros(2, 3, 5, 2, 2, 3)}, "attention_weights has shape"),
        ({"attention_weights": torch.zeros(2, 3, 5, 2, 1, 3, 3)}, "attention_weights .*expected .*5, 2, 2, 3, 3"),
        ({"attention_weights": torch.zeros(2, 3, 5, 2, 2, 3, 3, device="meta")}, "attention_weights is on meta"),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_mistakes_are_told(change: dict, message: str, backend: str) -> None:
    with pytest.raises(UserError, match=message):
        deform_attn(*make_case(11)._replace(**change), backend=backend)


@pytest.mark.parametrize(("backend", "message"), [("cuda", "not part of this release"), ("gpu", "backend is 'gpu'")])
def test_unknown_backends_are_told(backend: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        deform_attn(*make_case(12), backend=backend)
