from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vislab.errors import UserError
from vislab.ops import attention
from vislab.ops.attention import attention_backends

HERE = ["sdpa", "reference"]  # xformers has a file of its own
MASK_SHAPES = [(), (7,), (1,), (5, 7), (5, 1), (1, 7), (3, 1, 1), (3, 5, 7), (2, 1, 1, 7), (2, 1, 5, 1), (2, 3, 5, 7)]


def tensors(queries: int = 5, keys: int = 7, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(queries * 10 + keys)
    shapes = ((2, 3, queries, 4), (2, 3, keys, 4), (2, 3, keys, 6))
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def make_mask(
    kind: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float64, *, dead: bool = False
) -> torch.Tensor:
    """About 3 in 10 excluded, never the first key unless `dead`: then row 2 (or the only one) is excluded whole."""
    generator = torch.Generator().manual_seed(len(shape))
    allowed = torch.rand(shape, generator=generator) < 0.7
    if shape and allowed.numel():
        allowed[..., 0] = True
    if dead:
        (allowed[..., min(2, shape[-2] - 1), :] if len(shape) > 1 else allowed).fill_(False)
    if kind == "bool":
        return allowed
    return torch.randn(shape, generator=generator, dtype=dtype).masked_fill(~allowed, -math.inf)


def by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Equation 1 with one weight at a time, in Python's own floats."""
    rows, columns, table = (tensor.detach().double().numpy() for tensor in (query, key, value))
    target = (*rows.shape[:3], columns.shape[2])
    term = np.zeros(target)
    if mask is not None:
        plain = mask.detach().numpy()
        term = np.broadcast_to(np.where(plain, 0.0, -math.inf) if plain.dtype == bool else plain, target)
    result = np.zeros((*rows.shape[:3], table.shape[3]))
    for batch, head, row in np.ndindex(*rows.shape[:3]):
        weights = []
        for column in range(target[3]):
            product = sum(a * b for a, b in zip(rows[batch, head, row], columns[batch, head, column], strict=True))
            weights.append(math.exp(product / math.sqrt(rows.shape[3]) + term[batch, head, row, column]))
        for column, weight in enumerate(weights):
            if weight > 0:
                result[batch, head, row] += weight / sum(weights) * table[batch, head, column]
    return torch.from_numpy(result)


@pytest.mark.parametrize("backend", ["auto", *HERE])
@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_every_mask_gives_what_the_formula_gives(shape: tuple[int, ...], kind: str, dead: bool, backend: str) -> None:
    inputs = tensors()
    mask = make_mask(kind, shape, dead=dead)
    torch.testing.assert_close(attention(*inputs, mask=mask, backend=backend).detach(), by_hand(*inputs, mask))


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(("queries", "keys"), [(5, 7), (1, 1), (1, 7), (33, 1)])
@pytest.mark.parametrize("shape", [None, (), ("K",), ("Q", 1)])
def test_odd_sizes(shape: tuple | None, queries: int, keys: int, backend: str) -> None:
    inputs = tensors(queries, keys)
    mask = None
    if shape is not None:
        mask = make_mask("bool", tuple({"Q": queries, "K": keys}.get(size, size) for size in shape))
    torch.testing.assert_close(attention(*inputs, mask=mask, backend=backend).detach(), by_hand(*inputs, mask))


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("kind", [None, "bool", "additive"])
def test_value_and_gradients_are_those_of_the_library_module(kind: str | None, backend: str) -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(2, 3, n, 4, generator=generator, dtype=torch.float64).requires_grad_() for n in (5, 7, 7)]
    mask = None if kind is None else make_mask(kind, (5, 7))
    module = torch.nn.MultiheadAttention(12, 3, batch_first=True, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.eye(12).repeat(3, 1))
        module.out_proj.weight.copy_(torch.eye(12))
    # There True excludes.
    theirs_mask = ~mask if kind == "bool" else mask
    joined = [tensor.transpose(1, 2).flatten(2) for tensor in inputs]
    theirs = module(*joined, attn_mask=theirs_mask)[0].unflatten(2, (3, 4)).transpose(1, 2)
    ours = attention(*inputs, mask=mask, backend=backend)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad(output.square().sum(), inputs) for output in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other)


def small(*sizes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(*size, dtype=torch.float64, generator=generator).requires_grad_() for size in sizes]


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("shape", [(3, 1), (2, 1, 4), (1, 2, 3, 4)])
def test_the_definition_has_the_gradients_of_finite_differences(shape: tuple[int, ...], dead: bool) -> None:
    excluded = make_mask("bool", shape, dead=dead).logical_not()

    def definition(*inputs: torch.Tensor) -> torch.Tensor:
        *others, term = inputs
        return attention(*others, mask=term.masked_fill(excluded, -math.inf), backend="reference")

    assert torch.autograd.gradcheck(definition, small((1, 2, 3, 2), (1, 2, 4, 2), (1, 2, 4, 3), shape))


def test_the_definition_is_differentiable_twice() -> None:
    inputs = small((1, 1, 2, 2), (1, 1, 3, 2), (1, 1, 3, 2))
    assert torch.autograd.gradgradcheck(lambda *x: attention(*x, backend="reference"), inputs)


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_backends_agree_in_all_gradients_that_of_the_mask_too(shape: tuple[int, ...], dead: bool) -> None:
    inputs = [*tensors(), make_mask("additive", shape, dead=dead).requires_grad_()]
    results = []
    for backend in HERE:
        output = attention(*inputs[:3], mask=inputs[3], backend=backend)
        results.append((output, *torch.autograd.grad(output.square().sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize(
    ("backend", "kernel"),
    [("reference", None), ("sdpa", None), ("sdpa", SDPBackend.FLASH_ATTENTION), ("sdpa", SDPBackend.MATH)],
)
def test_a_query_without_keys_is_as_if_it_were_not_there(backend: str, kernel: SDPBackend | None, kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn(2, 3, n, 8, generator=generator, requires_grad=True) for n in (5, 7, 7)]
    mask = make_mask(kind, (2, 3, 5, 7), torch.float32, dead=True)
    others = [0, 1, 3, 4]
    with sdpa_kernel([kernel] if kernel else list(SDPBackend.__members__.values())):
        output = attention(*inputs, mask=mask, backend=backend)
        without = attention(inputs[0][:, :, others], *inputs[1:], mask=mask[:, :, others], backend=backend)
    assert not output[:, :, 2].any()
    torch.testing.assert_close(output[:, :, others], without)
    (query, *found), (_, *expected) = (torch.autograd.grad(x.square().sum(), inputs) for x in (output, without))
    assert not query[:, :, 2].any() and query[:, :, others].all()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", HERE)
def test_the_gradient_of_a_dead_row_is_zero_even_under_a_loss_on_it_alone(backend: str) -> None:
    inputs = [*tensors(), make_mask("additive", (5, 7), dead=True).requires_grad_()]
    output = attention(*inputs[:3], mask=inputs[3], backend=backend)
    for gradient in torch.autograd.grad(output[:, :, 2].sum(), inputs):
        assert not gradient.any() and gradient.isfinite().all()


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(("batch", "queries", "keys"), [(2, 0, 3), (2, 3, 0), (2, 0, 0), (0, 3, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_nothing_to_compute(batch: int, queries: int, keys: int, masked: bool, backend: str) -> None:
    inputs = [torch.randn(batch, 3, n, 4, requires_grad=True) for n in (queries, keys, keys)]
    mask = torch.randn(batch, 1, queries, keys, requires_grad=True) if masked else None
    output = attention(*inputs, mask=mask, dropout=0.1, backend=backend)
    assert output.shape == (batch, 3, queries, 4) and not output.any()
    wanted = [*inputs, mask] if masked else inputs
    assert not any(gradient.any() for gradient in torch.autograd.grad(output.sum(), wanted))


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_order_does_not_matter(dtype: torch.dtype, backend: str) -> None:
    inputs = [tensor.detach() for tensor in tensors(dtype=dtype)]
    mask = make_mask("additive", (2, 3, 5, 7), dtype)
    expected = attention(*inputs, mask=mask, backend=backend)
    strided = [tensor.repeat_interleave(2, -1)[..., ::2] for tensor in inputs]
    turned = [tensor.transpose(1, 3).contiguous().transpose(1, 3) for tensor in (*inputs, mask)]
    torch.testing.assert_close(attention(*strided, mask=mask, backend=backend), expected)
    torch.testing.assert_close(attention(*turned[:3], mask=turned[3], backend=backend), expected)
    one = [tensor[:1].expand(2, -1, -1, -1) for tensor in inputs]
    torch.testing.assert_close(
        attention(*one, backend=backend), attention(*(x.contiguous() for x in one), backend=backend)
    )


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float32, 1e-5)])
def test_lower_precision(dtype: torch.dtype, tolerance: float, backend: str) -> None:
    inputs = tensors(dtype=dtype)
    mask = make_mask("additive", (5, 7), dtype, dead=True)
    output = attention(*inputs, mask=mask, backend=backend)
    assert output.dtype == dtype
    expected = by_hand(*inputs, mask.double())
    torch.testing.assert_close(output.detach().double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", HERE)
def test_autocast_decides_the_dtype(backend: str) -> None:
    query, key, value = tensors(dtype=torch.float32)
    mask = make_mask("additive", (5, 7), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attention(query.bfloat16(), key, value, mask=mask, backend=backend)
        double = attention(query.double(), key.double(), value.double(), backend=backend)
    assert mixed.dtype == torch.bfloat16 and double.dtype == torch.float64
    torch.testing.assert_close(mixed.detach().double(), by_hand(query, key, value, mask), rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("kind", [None, "bool", "additive"])
def test_dropout_keeps_weights_with_its_rate_and_scales_them(kind: str | None, backend: str) -> None:
    torch.manual_seed(0)
    queries, keys, rate = 60, 50, 0.3
    query, key = torch.randn(2, 2, queries, 4), torch.randn(2, 2, keys, 4)
    value = torch.eye(keys).expand(2, 2, -1, -1)  # so that the result is the weights themselves
    mask = None if kind is None else make_mask(kind, (queries, keys), torch.float32, dead=True)
    weights = attention(query, key, value, mask=mask, backend=backend)
    dropped = attention(query, key, value, mask=mask, dropout=rate, backend=backend)
    alive = weights > 0
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / (1 - rate))
    assert not kept[~alive].any()
    deviations = (kept.sum() - (1 - rate) * alive.sum()).abs() / math.sqrt(rate * (1 - rate) * alive.sum())
    assert deviations < 4


@pytest.mark.parametrize("backend", HERE)
def test_dropout_keeps_the_mean_of_value_and_gradient(backend: str) -> None:
    torch.manual_seed(0)
    inputs = tensors()
    draws, rate = 2000, 0.3
    many = [tensor.detach()[None].expand(draws, *tensor.shape).flatten(0, 1).requires_grad_() for tensor in inputs]
    dropped = attention(*many, dropout=rate, backend=backend)
    kept = attention(*inputs, backend=backend)
    samples = (dropped, *torch.autograd.grad(dropped.sum(), many))
    for sample, expected in zip(samples, (kept, *torch.autograd.grad(kept.sum(), inputs)), strict=True):
        sample = sample.unflatten(0, (draws, 2))
        standard_error = sample.std(0) / math.sqrt(draws)
        assert ((sample.mean(0) - expected).abs() <= 5 * standard_error + 1e-12).all()
        assert standard_error.max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(5, 4)}, r"query has shape \(5, 4\), expected \(B, M, Q, D\)"),
        ({"query": torch.zeros(2, 3, 5, 0)}, "query has shape .*expected .*D at least 1"),
        ({"key": torch.zeros(2, 3, 7, 5)}, "key has shape .*expected .2, 3, K, 4"),
        ({"value": torch.zeros(2, 3, 6, 6)}, "value has shape .*expected .2, 3, 7, D'"),
        ({"mask": torch.zeros(5, 6, dtype=torch.bool)}, "mask has shape .*expected .*5, 7"),
        ({"mask": torch.zeros(1, 2, 3, 5, 7)}, "mask has shape .*expected .*5, 7"),
        ({"mask": torch.zeros(5, 7, dtype=torch.int64)}, "mask is torch.int64, expected torch.bool or torch.float64"),
        ({"mask": torch.zeros(5, 7)}, "mask is torch.float32, expected torch.bool or torch.float64"),
        ({"mask": torch.zeros(5, 7, dtype=torch.bool, device="meta")}, "mask is on meta, expected cpu as query is"),
        ({"query": torch.zeros(2, 3, 5, 4, dtype=torch.int64)}, "query is torch.int64, expected a floating dtype"),
        ({"key": torch.zeros(2, 3, 7, 4)}, "key is torch.float32, expected torch.float64 as query is"),
        ({"value": torch.zeros(2, 3, 7, 6, device="meta")}, "value is on meta, expected cpu as query is"),
        ({"dropout": 1.0}, r"dropout is 1.0, expected a probability in \[0, 1\)"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"backend": "flash"}, "backend is 'flash', expected one of auto, sdpa, xformers, reference"),
    ],
)
def test_mistakes_are_told(change: dict, message: str) -> None:
    arguments = dict(zip(("query", "key", "value"), tensors(), strict=True))
    with pytest.raises(UserError, match=message):
        attention(**{**arguments, **change})


def test_the_list_of_backends_says_what_runs_and_why() -> None:
    listed = {name: (live, reason) for name, live, reason in attention_backends()}
    assert list(listed) == ["sdpa", "xformers", "reference"]
    assert listed["sdpa"][0] and listed["reference"][0] and all(reason for _, reason in listed.values())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [None, "bool", "additive"])
@pytest.mark.parametrize("kernel", [None, "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 5e-2)])
def test_every_cuda_kernel_of_torch_agrees(
    dtype: torch.dtype, tolerance: float, kernel: str | None, kind: str | None
) -> None:
    inputs = [torch.randn(2, 3, n, 32, device="cuda", dtype=dtype, requires_grad=True) for n in (65, 71, 71)]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    mask = None if kind is None else make_mask(kind, (65, 71), dtype, dead=True).cuda()
    chosen = list(SDPBackend.__members__.values()) if kernel is None else [SDPBackend.__members__[kernel]]
    try:
        with sdpa_kernel(chosen):
            output = attention(*inputs, mask=mask, backend="sdpa")
    except RuntimeError as error:
        pytest.skip(f"torch has no such kernel for these tensors: {error}")
    exact_mask = mask.double() if kind == "additive" else mask
    expected = attention(*exact, mask=exact_mask, backend="reference")
    gradients = (torch.autograd.grad(x.square().sum(), y) for x, y in ((output, inputs), (expected, exact)))
    for ours, theirs in zip((output, *next(gradients)), (expected, *next(gradients)), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)
