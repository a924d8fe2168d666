from __future__ import annotations

import random

import pytest
import torch
from attention_cases import Case, FusedCase, make_case, make_fused_case, outputs_and_gradients
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vislab.errors import UserError
from vislab.ops import cpu, deform_attn, deform_attn_fused
from vislab.ops.native import INSTRUCTION_SETS, instruction_set, native_kernel
from vislab.ops.reference import deform_attn_fused_reference, deform_attn_reference

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


FORMS = {Case: (deform_attn, deform_attn_reference), FusedCase: (deform_attn_fused, deform_attn_fused_reference)}


def assert_error_law(case: Case | FusedCase, constant: tuple[str, ...] = (), backend: str = "cpu") -> None:
    """The kernel's error is at most twice the definition's in the same dtype, up to a few roundings of the largest."""
    function, definition = FORMS[type(case)]
    native = outputs_and_gradients(function, case, constant=constant, backend=backend)
    plain = outputs_and_gradients(definition, case, constant=constant)
    exact = outputs_and_gradients(definition, case.to(torch.float64), constant=constant)
    names = ("output", *(name for name in case._fields if name not in (*constant, "spatial_shapes", "frame_index")))
    for name, ours, theirs, truth in zip(names, native, plain, exact, strict=True):
        assert ours.isfinite().all() or not theirs.isfinite().all(), name
        ours, theirs, truth = (torch.nan_to_num(tensor, 0, 0, 0) for tensor in (ours, theirs, truth))
        if truth.numel():
            kind = torch.finfo(ours.dtype)
            terms = 16 if name == "reference_points" else 1  # its gradient is a sum over heads, points and frames
            slack = 8 * terms * kind.eps * max(truth.abs().max(), kind.tiny)
            assert (ours - truth).abs().max() <= 2 * (theirs - truth).abs().max() + slack, name


def random_sizes(seed: int) -> dict:
    choose = random.Random(seed)
    levels = choose.choice([1, 1, 2, 3, 4, 8])
    return {
        "batch": choose.randint(1, 2),
        "frames": choose.choice([1, 2, 3, 5, 36]),
        "queries": choose.choice([0, 1, 2, 7, 20]),
        "heads": choose.choice([1, 2, 3, 4, 8]),
        "channels": choose.choice([1, 2, 3, 8, 16, 32, 64, 65]),
        "sources": choose.randint(1, 4),
        "shapes": tuple((choose.randint(1, 7), choose.randint(1, 7)) for _ in range(levels)),
        "points": choose.randint(1, 4),
        "wild": choose.random() < 0.7,
    }


@needs_kernel
@pytest.mark.parametrize("part", range(10))
def test_native_kernel_keeps_the_error_law_on_random_shapes(part: int, nan_filled: None) -> None:
    for seed in range(30 * part, 30 * part + 30):
        assert_error_law(make_case(seed, **random_sizes(seed)))


@needs_kernel
@pytest.mark.parametrize("part", range(10))
def test_fused_kernel_keeps_the_error_law_on_random_shapes(part: int, nan_filled: None) -> None:
    for seed in range(30 * part, 30 * part + 30):
        flags = random.Random(-seed)
        case = make_fused_case(
            seed,
            size=flags.choice([2, 4]),
            shared_frames=flags.random() < 0.5,
            shared_sources=flags.random() < 0.5,
            **random_sizes(seed),
        )
        assert_error_law(case, constant=("reference_points",) if flags.random() < 0.5 else ())


@needs_kernel
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("queries", [9, 200])
def test_large_frames_are_sampled_from_a_packed_copy(queries: int, fused: bool, nan_filled: None) -> None:
    # 72 queries are too few for a copy, 1600 enough; the frame is larger than 2^17 numbers in both cases
    sizes = {"batch": 1, "frames": 2, "heads": 3, "channels": 32, "sources": 3, "points": 4}
    make = make_fused_case if fused else make_case
    case = make(31, queries=8 * queries, shapes=((40, 33), (7, 9)), wild=True, **sizes)
    case.frame_index.copy_(torch.tensor([[-1, 1, 0], [-1, -1, -1]]))
    assert_error_law(case)


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fused", [False, True])
def test_half_precision_keeps_the_error_law(dtype: torch.dtype, fused: bool) -> None:
    case = make_fused_case(4, size=4).to(dtype) if fused else make_case(4).to(dtype)
    assert_error_law(case)
    results = outputs_and_gradients(FORMS[type(case)][0], case, backend="cpu")
    assert all(result.dtype == dtype for result in results)


@needs_kernel
def test_half_precision_keeps_references_in_float32() -> None:
    case = make_fused_case(5, shapes=((60, 90),))
    mixed = FusedCase(*(t.bfloat16() if t.is_floating_point() else t for t in case))
    mixed = mixed._replace(reference_points=case.reference_points)
    exact = mixed.to(torch.float64)
    error = (deform_attn_fused(*mixed) - deform_attn_fused_reference(*exact)).abs().max()
    assert error < 4 * torch.finfo(torch.bfloat16).eps, "bfloat16 references would be off by a third of a pixel"


def test_equal_to_the_plain_form_on_softmax_and_locations() -> None:
    case = make_fused_case(6, sources=2, shared_frames=True, dtype=torch.float64)
    index = torch.tensor([[0, 1], [1, 1], [2, -1]])
    scale = torch.tensor([[1 / width, 1 / height] for height, width in case.spatial_shapes.tolist()]).double()
    locations = case.reference_points[:, :, :, None, :, :, None] + case.sampling_offsets * scale[:, None]
    logits = case.attention_logits.clone()
    logits[:, 2, :, :, 1] = -torch.inf
    weights = logits.flatten(-3).softmax(-1).view_as(logits)
    fused = deform_attn_fused(*case._replace(frame_index=index))
    torch.testing.assert_close(fused, deform_attn(case.value, case.spatial_shapes, index, locations, weights))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_without_any_frame_or_finite_logit_everything_is_zero(backend: str) -> None:
    case = make_fused_case(7)
    nowhere = case._replace(frame_index=torch.full_like(case.frame_index, -1))
    silent = case._replace(attention_logits=torch.full_like(case.attention_logits, -torch.inf))
    for empty in (nowhere, silent):
        for result in outputs_and_gradients(deform_attn_fused, empty, backend=backend):
            assert not result.any()


@needs_kernel
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_undefined_logits_do_not_pass_as_numbers(bad: float) -> None:
    case = make_fused_case(8, queries=3)
    case.attention_logits[0, 0, 1, 0, 0, 0, 0] = bad
    case.frame_index[:] = 0
    undefined = deform_attn_fused(*case, backend="cpu").isnan()
    assert undefined[0, 0, 1, :8].all() and undefined.sum() == 8


@needs_kernel
def test_fused_softmax_gradients_hold_for_distant_logits() -> None:
    case = make_fused_case(9, sources=1)
    case = case._replace(attention_logits=case.attention_logits * 20)
    assert_error_law(case)


@needs_kernel
@pytest.mark.parametrize("target", SUPPORTED)
def test_every_instruction_set_keeps_the_error_law(target: str, nan_filled: None, monkeypatch) -> None:
    kernel = native_kernel(target)
    assert kernel.library is not None and kernel.library.vislab_deform_attn_instruction_set() == target.encode()
    monkeypatch.setattr(cpu, "native_kernel", lambda: kernel)
    for seed, channels in enumerate((1, 3, 8, 16, 32, 64, 65)):
        sizes = {"channels": channels, "sources": 1 + seed % 2, "queries": 11, "wild": True}
        assert_error_law(make_case(seed, **sizes))
        assert_error_law(make_fused_case(seed, **sizes))


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
@pytest.mark.parametrize("make", [make_case, make_fused_case])
@pytest.mark.parametrize("sources", [1, 4])
@pytest.mark.parametrize("shapes", [((4, 6), (3, 2)), ((40, 33), (7, 9))])  # the larger one is packed
def test_same_bits_for_any_number_of_threads(shapes: tuple, sources: int, make, threads) -> None:
    sizes = {"frames": 3, "queries": 400, "heads": 4, "channels": 32, "points": 4, "shapes": shapes}
    case = make(2, batch=1, sources=sources, wild=True, **sizes)
    results = []
    for count in (1, 2, 4):
        threads(count)
        results.append(outputs_and_gradients(FORMS[type(case)][0], case, backend="cpu"))
    for other in results[1:]:
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(results[0], other, strict=True))


@needs_kernel
def test_non_contiguous_inputs() -> None:
    case = make_case(3)
    strided = Case(*(_strided(tensor) if tensor.is_floating_point() else tensor for tensor in case))
    assert not strided.value.is_contiguous()
    torch.testing.assert_close(deform_attn(*strided, backend="cpu"), deform_attn(*case, backend="cpu"), rtol=0, atol=0)
    fused = make_fused_case(3, shared_sources=False)
    strided = FusedCase(*(_strided(tensor) if tensor.is_floating_point() else tensor for tensor in fused))
    expected = deform_attn_fused(*fused, backend="cpu")
    torch.testing.assert_close(deform_attn_fused(*strided, backend="cpu"), expected, rtol=0, atol=0)


def _strided(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def test_double_precision_takes_the_definition() -> None:
    case = make_case(4, dtype=torch.float64)
    expected = outputs_and_gradients(deform_attn_reference, case)
    for ours, theirs in zip(outputs_and_gradients(deform_attn, case), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    with pytest.raises(UserError, match=r'backend="cpu" cannot run: value is torch\.float64'):
        deform_attn(*case, backend="cpu")


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_no_queries(backend: str) -> None:
    for function, case in ((deform_attn, make_case(5, queries=0)), (deform_attn_fused, make_fused_case(5, queries=0))):
        output, grad_value, *_ = outputs_and_gradients(function, case, backend=backend)
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
@pytest.mark.parametrize("size", [2, 4])
def test_opcheck_of_the_fused_form(dtype: torch.dtype, size: int) -> None:
    value, shapes, index, *points = make_fused_case(6, size=size, shared_frames=True, dtype=dtype)
    leaves = [tensor.requires_grad_() for tensor in (value, *points)]
    torch.library.opcheck(torch.ops.vislab.deform_attn_fused.default, (leaves[0], shapes, index, *leaves[1:], "auto"))
    upstream, constants = torch.randn(2, 3, 5, 16, dtype=dtype), [leaf.detach() for leaf in leaves]
    for location_gradients in (False, True):
        arguments = (upstream, constants[0], shapes, index, *constants[1:], "auto", location_gradients)
        torch.library.opcheck(torch.ops.vislab.deform_attn_fused_backward.default, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiles_without_a_graph_break(dtype: torch.dtype) -> None:
    compiled = torch.compile(lambda *case: deform_attn(*case) * 2, fullgraph=True, backend="aot_eager")
    case = make_case(7, dtype=dtype)
    expected = outputs_and_gradients(lambda *case: deform_attn(*case) * 2, case)
    for ours, theirs in zip(outputs_and_gradients(compiled, case), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size", [2, 4])
def test_the_fused_form_compiles_without_a_graph_break(size: int) -> None:
    compiled = torch.compile(lambda *case: deform_attn_fused(*case) * 2, fullgraph=True, backend="aot_eager")
    case = make_fused_case(7, size=size)
    expected = outputs_and_gradients(lambda *case: deform_attn_fused(*case) * 2, case)
    for ours, theirs in zip(outputs_and_gradients(compiled, case), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_exports() -> None:
    class Module(torch.nn.Module):
        def forward(self, *case):
            return (deform_attn if len(case) == 5 else deform_attn_fused)(*case)

    for case in (make_case(8), make_fused_case(8)):
        exported = torch.export.export(Module(), tuple(case)).module()
        assert torch.equal(exported(*case), FORMS[type(case)][0](*case))


def test_meta_device_and_flops() -> None:
    case = Case(*(tensor.to("meta") for tensor in make_case(9)))
    with FlopCounterMode(display=False) as counter:
        output, *gradients = outputs_and_gradients(deform_attn_on_meta, case)
    assert output.shape == (2, 3, 5, 16)
    assert [gradient.shape for gradient in gradients] == [case[0].shape, case[3].shape, case[4].shape]
    pixels = 4 * 2 * 3 * 5 * 2 * 2 * 3 * 3  # corners, B, T, Q, M, F, L, P
    assert counter.get_total_flops() == 3 * 2 * pixels * 8
    fused = FusedCase(*(tensor.to("meta") for tensor in make_fused_case(9)))
    with FlopCounterMode(display=False) as counter:
        output, *gradients = outputs_and_gradients(deform_attn_fused, fused)
    assert output.is_meta and counter.get_total_flops() == 3 * 2 * pixels * 8
    assert [gradient.shape for gradient in gradients] == [t.shape for t in fused if t.is_floating_point()]


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


def test_autocast_runs_the_fused_form_in_half_precision() -> None:
    case = make_fused_case(10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = deform_attn_fused(*case)
    assert output.dtype == torch.bfloat16
    half = case.to(torch.bfloat16)._replace(reference_points=case.reference_points)
    assert torch.equal(output, deform_attn_fused(*half))


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"reference_points": torch.zeros(2, 3, 5, 3, 2)},
            r"reference_points has shape .*\(2, 3 or 1, 5, 2 or 1, 3, 2",
        ),
        ({"reference_points": torch.zeros(2, 2, 5, 1, 3, 2)}, "reference_points has shape"),
        ({"reference_points": torch.zeros(2, 3, 5, 1, 3, 3)}, "reference_points has shape"),
        ({"reference_points": torch.zeros(2, 3, 5, 1, 3, 2).half()}, "reference_points is torch.float16"),
        ({"reference_points": torch.zeros(2, 3, 5, 1, 3, 2, device="meta")}, "reference_points is on meta"),
        ({"sampling_offsets": torch.zeros(2, 3, 5, 2, 2, 3, 3)}, "sampling_offsets has shape"),
        ({"attention_logits": torch.zeros(2, 3, 5, 2, 2, 3, 3).double()}, "attention_logits is torch.float64"),
    ],
)
def test_mistakes_of_the_fused_form_are_told(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        deform_attn_fused(*make_fused_case(11)._replace(**change))


@pytest.mark.parametrize(
    ("backend", "message"), [("cuda", 'backend="cuda" cannot run: value is on cpu'), ("gpu", "backend is 'gpu'")]
)
def test_backends_that_do_not_fit_are_told(backend: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        deform_attn(*make_case(12), backend=backend)
    with pytest.raises(UserError, match=message):
        deform_attn_fused(*make_fused_case(12), backend=backend)
