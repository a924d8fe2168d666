"""The adapter to xformers without a GPU: a stand-in that holds to xformers' rules and computes the plain formula."""

from __future__ import annotations

import importlib.machinery
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vislab.errors import UserError
from vislab.ops import attention, xformers_attention
from vislab.ops.attention import attention_backends

MASK_SHAPES = [(), (7,), (5, 7), (5, 1), (1, 7), (3, 1, 1), (3, 5, 7), (2, 1, 1, 7), (2, 1, 5, 1), (2, 3, 5, 7)]


def memory_efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None = None,
    p: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """The formula of xformers' own docstring, for what its CUTLASS kernels accept on sm_80 (v0.0.35, fmha)."""
    batch, queries, heads, channels = query.shape
    keys = key.shape[1]
    assert queries and keys and key.shape == (batch, keys, heads, channels) and value.shape[:3] == key.shape[:3]
    alignment = {torch.float32: 4, torch.bfloat16: 8, torch.float16: 8}[query.dtype]
    for tensor in (query, key, value):
        assert tensor.dtype == query.dtype
        assert tensor.stride(-1) == 1 and tensor.shape[-1] % alignment == 0
        assert all(stride % alignment == 0 for stride in tensor.stride()[:-1]) and tensor.data_ptr() % 16 == 0
    scores = torch.einsum("bqmd,bkmd->bmqk", query, key) * (channels**-0.5 if scale is None else scale)
    if attn_bias is not None:
        assert attn_bias.shape == (batch, heads, queries, keys) and attn_bias.dtype == query.dtype
        assert attn_bias.stride(-1) == 1 and attn_bias.data_ptr() % 16 == 0
        assert all(stride % alignment == 0 for stride in attn_bias.stride()[:-1])
        scores = scores + attn_bias  # a row of nothing but -inf becomes NaN, as there
    output = torch.einsum("bmqk,bkmd->bqmd", functional.dropout(scores.softmax(-1), p), value)
    return output if any(tensor.requires_grad for tensor in (query, key, value)) else output.detach()


def install(monkeypatch: pytest.MonkeyPatch, kernel: object) -> None:
    for name in ("xformers", "xformers.ops"):
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["xformers.ops"], "memory_efficient_attention", kernel, raising=False)
    monkeypatch.setattr(xformers_attention, "DEVICE_TYPE", "cpu")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, memory_efficient_attention)


def tensors(channels: int = 4, value_channels: int = 6, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(channels)
    shapes = ((2, 3, 5, channels), (2, 3, 7, channels), (2, 3, 7, value_channels))
    return [torch.randn(*shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def make_mask(kind: str, shape: tuple[int, ...], *, dead: bool) -> Tensor:
    allowed = torch.rand(shape, generator=torch.Generator().manual_seed(len(shape))) < 0.7
    if dead:
        (allowed[..., min(2, shape[-2] - 1), :] if len(shape) > 1 else allowed).fill_(False)
    if kind == "bool":
        return allowed
    return torch.randn(shape, generator=torch.Generator().manual_seed(9)).masked_fill(~allowed, -math.inf)


def compare(inputs: list[Tensor], mask: Tensor | None, wanted: list[Tensor]) -> None:
    results = []
    for backend in ("xformers", "reference"):
        output = attention(*inputs, mask=mask, backend=backend)
        results.append((output, *torch.autograd.grad(output.square().sum(), wanted)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("channels", "value_channels"), [(1, 1), (4, 6), (8, 8), (9, 3), (32, 32)])
@pytest.mark.parametrize("masked", [False, True])
def test_any_number_of_channels(channels: int, value_channels: int, masked: bool) -> None:
    inputs = tensors(channels, value_channels)
    compare(inputs, make_mask("additive", (2, 1, 5, 7), dead=True) if masked else None, inputs)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("shape", MASK_SHAPES)
def test_every_mask_and_its_gradient(shape: tuple[int, ...], kind: str, dead: bool) -> None:
    inputs = tensors()
    mask = make_mask(kind, shape, dead=dead)
    compare(inputs, mask, inputs if kind == "bool" else [*inputs, mask.requires_grad_()])


@pytest.mark.usefixtures("stand_in")
def test_a_mask_gets_its_gradient_where_nothing_else_wants_one() -> None:
    inputs = [tensor.detach() for tensor in tensors(8, 8)]
    mask = make_mask("additive", (3, 1, 7), dead=False).requires_grad_()
    compare(inputs, mask, [mask])
    assert not inputs[0].requires_grad
    with torch.no_grad():
        assert not attention(*inputs, mask=mask, backend="xformers").requires_grad


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("kind", ["bool", "additive"])
def test_a_dead_row_is_exactly_zero_and_sends_nothing_back(kind: str) -> None:
    inputs = tensors()
    output = attention(*inputs, mask=make_mask(kind, (5, 7), dead=True), backend="xformers")
    assert not output[:, :, 2].any()
    gradients = torch.autograd.grad(output[:, :, 2].sum(), inputs)
    assert not any(gradient.any() or gradient.isnan().any() for gradient in gradients)


@pytest.mark.usefixtures("stand_in")
def test_any_memory_order() -> None:
    torch.manual_seed(0)
    plain = [tensor.detach() for tensor in tensors(8, 8)]
    mask = make_mask("additive", (2, 3, 5, 7), dead=False)
    wide = torch.randn(2, 3, 7, 16)  # rows well apart, but the first element ill placed
    for change in (
        lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),  # as projections lie: read in place
        lambda x: x.transpose(1, 3).contiguous().transpose(1, 3),
        lambda x: x.repeat_interleave(2, -1)[..., ::2],
        lambda x: x[:1].expand(2, -1, -1, -1),
        lambda x: wide[:, :, : x.shape[2], 1 : 1 + x.shape[3]],
        lambda x: x[..., :1, :1, :].expand(-1, 3, x.shape[2], -1),
        lambda x: torch.randn(1, 1, 1, 9)[..., :8],
    ):
        inputs = [change(tensor).requires_grad_() for tensor in plain]
        sizes = (*inputs[0].shape[:3], inputs[1].shape[2])
        compare(inputs, None, inputs)
        compare(inputs, mask.transpose(2, 3).contiguous().transpose(2, 3)[tuple(map(slice, sizes))], inputs)


@pytest.mark.usefixtures("stand_in")
def test_tensors_that_lie_well_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def watch(*tensors: Tensor, **options: object) -> Tensor:
        seen.extend(tensors)
        return memory_efficient_attention(*tensors, **options)

    monkeypatch.setattr(sys.modules["xformers.ops"], "memory_efficient_attention", watch)
    inputs = [torch.randn(2, n, 3, 8).transpose(1, 2) for n in (5, 7, 7)]
    attention(*inputs, backend="xformers")
    assert [tensor.data_ptr() for tensor in seen] == [tensor.data_ptr() for tensor in inputs]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    inputs = tensors(9, 3, dtype)
    mask = make_mask("additive", (5, 7), dead=True).to(dtype)
    output, expected = (attention(*inputs, mask=mask, backend=name) for name in ("xformers", "reference"))
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, rtol=3e-2, atol=3e-2)


@pytest.mark.usefixtures("stand_in")
def test_dropout_keeps_weights_with_its_rate_and_scales_them() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 2, 60, 4), torch.randn(2, 2, 50, 4), torch.eye(50).expand(2, 2, -1, -1)
    weights = attention(query, key, value, backend="xformers")
    dropped = attention(query, key, value, dropout=0.3, backend="xformers")
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.7)
    assert abs(kept.float().mean().item() - 0.7) < 4 * math.sqrt(0.3 * 0.7 / kept.numel())


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("batch", "queries", "keys"), [(2, 0, 3), (2, 3, 0), (0, 3, 3)])
def test_nothing_to_compute(batch: int, queries: int, keys: int) -> None:
    inputs = [torch.randn(batch, 3, n, 4, requires_grad=True) for n in (queries, keys, keys)]
    output = attention(*inputs, backend="xformers")
    assert output.shape == (batch, 3, queries, 4) and not output.any()


@pytest.mark.parametrize("queries", [5, 0])
def test_tensors_elsewhere_are_refused_not_rerouted(queries: int) -> None:
    inputs = [tensor[:, :, :queries] for tensor in tensors()]
    with pytest.raises(UserError, match='backend="xformers" found tensors on cpu, expected cuda'):
        attention(*inputs, backend="xformers")


@pytest.mark.usefixtures("stand_in")
def test_a_dtype_without_kernels_is_refused() -> None:
    with pytest.raises(UserError, match="found torch.float64, expected one of float32, bfloat16, float16"):
        attention(*tensors(dtype=torch.float64), backend="xformers")


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, memory_efficient_attention)
    monkeypatch.delitem(sys.modules, "xformers.ops")
    monkeypatch.setitem(sys.modules, "xformers", None)
    with pytest.raises(UserError, match=r"found no such package, expected it: pip install -e '\.\[xformers\]'"):
        attention(*tensors(), backend="xformers")
    assert ("xformers", False, "not installed (pip install -e '.[xformers]')") in attention_backends()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, memory_efficient_attention)
    for name in ("xformers", "xformers.ops"):
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers" / "__init__.py").write_text("raise OSError('undefined symbol:\\n  _ZN3c10')")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("broken")
def test_a_package_that_does_not_import_is_told_with_its_reason() -> None:
    with pytest.raises(UserError, match=r"does not import \(OSError: undefined symbol: _ZN3c10\), expected .* torch"):
        attention(*tensors(), backend="xformers")


@pytest.mark.usefixtures("broken")
def test_the_list_of_backends_imports_nothing_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert attention_backends()[1][:2] == ("xformers", False) and "no CUDA device" in attention_backends()[1][2]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    name, live, reason = attention_backends()[1]
    assert not live and "undefined symbol" in reason


def refuse(*tensors: Tensor, **options: object) -> Tensor:
    if tensors[0].dtype == torch.bfloat16:
        return memory_efficient_attention(*tensors, **options)
    raise NotImplementedError(
        "No operator found for `memory_efficient_attention_forward` with inputs:\n"
        "     query       : shape=(2, 5, 3, 8) (torch.float32)\n"
        "     p           : 0.0\n"
        "`cutlassF-pt` is not supported because:\n    requires device with capability <= (9, 0)"
    )


def test_what_xformers_refuses_is_told_with_its_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, refuse)
    message = r"found float32, D = 4, D' = 6, dropout 0.0, no mask, and has no kernel for it: `cutlassF-pt` is not"
    with pytest.raises(UserError, match=message):
        attention(*tensors(), backend="xformers")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert attention_backends()[1] == ("xformers", True, "runs bfloat16")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [None, "bool", "additive"])
@pytest.mark.parametrize(("queries", "keys", "channels"), [(65, 71, 32), (1, 1, 4), (300, 300, 36)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 5e-2), (torch.float16, 1e-2)])
def test_the_real_kernels_agree_with_the_definition(
    dtype: torch.dtype, tolerance: float, queries: int, keys: int, channels: int, kind: str | None
) -> None:
    pytest.importorskip("xformers.ops", reason="xformers is not installed", exc_type=ImportError)
    torch.manual_seed(0)
    shapes = ((2, 3, queries, channels), (2, 3, keys, channels), (2, 3, keys, channels))
    inputs = [torch.randn(*shape, device="cuda", dtype=dtype, requires_grad=True) for shape in shapes]
    if kind is not None:
        mask = make_mask(kind, (3, queries, keys), dead=True).cuda()
        inputs += [mask.to(dtype).requires_grad_()] if kind == "additive" else [mask]
    exact = [x.detach().double().requires_grad_() if x.is_floating_point() else x for x in inputs]
    results = []
    for backend, (query, key, value, *mask) in (("xformers", inputs), ("reference", exact)):
        output = attention(query, key, value, mask=mask[0] if mask else None, backend=backend)
        wanted = [x for x in (query, key, value, *mask) if x.requires_grad]
        results.append((output, *torch.autograd.grad(output.square().sum(), wanted)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_real_dropout_keeps_weights_with_its_rate() -> None:
    pytest.importorskip("xformers.ops", reason="xformers is not installed", exc_type=ImportError)
    torch.manual_seed(0)
    query, key = (torch.randn(4, 2, 128, 32, device="cuda") for _ in range(2))
    value = torch.eye(128, device="cuda").expand(4, 2, -1, -1)
    weights = attention(query, key, value, backend="xformers")
    dropped = attention(query, key, value, dropout=0.3, backend="xformers")
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.7, rtol=1e-2, atol=1e-4)
    assert abs(kept.float().mean().item() - 0.7) < 4 * math.sqrt(0.3 * 0.7 / kept.numel()) + 1e-3
