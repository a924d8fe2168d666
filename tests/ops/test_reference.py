from __future__ import annotations

import pytest
import torch
from attention_cases import Case, by_grid_sample, by_loops, make_case, make_fused_case, outputs_and_gradients

from vislab.ops.reference import (
    deform_attn_fused_reference,
    deform_attn_fused_reference_backward,
    deform_attn_reference,
    deform_attn_reference_backward,
)


@pytest.mark.parametrize("wild", [False, True])
def test_equals_plain_loops(wild: bool) -> None:
    case = make_case(1, batch=1, frames=2, queries=3, channels=3, dtype=torch.float64, wild=wild)
    expected = torch.from_numpy(by_loops(case))
    torch.testing.assert_close(deform_attn_reference(*case), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("sources", [1, 3])
def test_equals_the_grid_sample_form_and_its_gradients(sources: int) -> None:
    case = make_case(2, sources=sources, channels=5, dtype=torch.float64)
    expected = outputs_and_gradients(by_grid_sample, case)
    for ours, theirs in zip(outputs_and_gradients(deform_attn_reference, case), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_gradcheck() -> None:
    value, shapes, index, locations, weights = make_case(
        3, batch=1, frames=2, queries=2, heads=1, channels=2, points=2, shapes=((2, 3), (1, 1)), dtype=torch.float64
    )
    leaves = tuple(tensor.requires_grad_() for tensor in (value, locations, weights))
    assert torch.autograd.gradcheck(lambda v, x, a: deform_attn_reference(v, shapes, index, x, a), leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    case = make_case(4, channels=4).to(dtype)
    output, *gradients = outputs_and_gradients(deform_attn_reference, case)
    assert output.dtype == dtype and all(gradient.dtype == dtype for gradient in gradients)
    exact = deform_attn_reference(*case.to(torch.float64))
    assert (output - exact).abs().max() < 100 * torch.finfo(dtype).eps  # sums of up to 18 terms of order one


@pytest.mark.parametrize("wild", [False, True])
def test_written_out_backward_equals_autograd(wild: bool) -> None:
    case = make_case(8, channels=5, dtype=torch.float64, wild=wild)
    output, *expected = outputs_and_gradients(deform_attn_reference, case)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    for ours, theirs in zip(deform_attn_reference_backward(upstream, *case), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_locations_without_meaning_contribute_nothing() -> None:
    case = make_case(5)
    lost = case.sampling_locations.clone()
    lost[..., 0, :] = float("nan")
    lost[..., 1, 0] = float("inf")
    masked = case.attention_weights.clone()
    masked[..., :2] = 0
    output, grad_value, grad_locations, grad_weights = outputs_and_gradients(
        deform_attn_reference, case._replace(sampling_locations=lost)
    )
    torch.testing.assert_close(output, deform_attn_reference(*case._replace(attention_weights=masked)))
    assert grad_value.isfinite().all()
    assert not grad_locations[..., :2, :].any() and not grad_weights[..., :2].any()


def test_absent_frames_count_for_nothing() -> None:
    case = make_case(6)
    absent = torch.full_like(case.frame_index, -1)
    for result in outputs_and_gradients(deform_attn_reference, case._replace(frame_index=absent)):
        assert not result.any()


def test_a_constant_map_gives_the_sum_of_weights() -> None:
    case = make_case(7, sources=1, shapes=((9, 7),))
    inside = Case(
        torch.ones_like(case.value),
        case.spatial_shapes,
        torch.arange(3)[:, None],
        case.sampling_locations.clamp(0.2, 0.8),
        case.attention_weights,
    )
    expected = case.attention_weights.sum((-3, -2, -1)).repeat_interleave(case.value.shape[-1], -1)
    torch.testing.assert_close(deform_attn_reference(*inside), expected)


@pytest.mark.parametrize("size", [2, 4])
def test_gradcheck_of_the_fused_form(size: int) -> None:
    value, shapes, index, reference, offsets, logits = make_fused_case(
        3, size=size, batch=1, frames=2, queries=2, heads=1, channels=2, points=2, shapes=((2, 3), (1, 1)),
        dtype=torch.float64,
    )  # fmt: skip
    leaves = tuple(tensor.requires_grad_() for tensor in (value, reference, offsets, logits))
    assert torch.autograd.gradcheck(lambda v, r, o, a: deform_attn_fused_reference(v, shapes, index, r, o, a), leaves)


@pytest.mark.parametrize("size", [2, 4])
def test_written_out_backward_of_the_fused_form_equals_autograd(size: int) -> None:
    case = make_fused_case(8, size=size, channels=5, dtype=torch.float64, wild=True)
    output, *expected = outputs_and_gradients(deform_attn_fused_reference, case, constant=("reference_points",))
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    ours = deform_attn_fused_reference_backward(upstream, *case, location_gradients=False)
    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12, equal_nan=True)
