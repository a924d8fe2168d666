from __future__ import annotations

import pytest
import torch

from vislab.errors import UserError
from vislab.ops import attention


def tensors(queries: int = 5, keys: int = 7, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(queries * 10 + keys)
    shapes = ((2, 3, queries, 4), (2, 3, keys, 4), (2, 3, keys, 6))
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("mask", [None, "bool", "additive"])
@pytest.mark.parametrize(("queries", "keys"), [(5, 7), (1, 1), (0, 3)])
def test_backends_agree_in_value_and_gradient(mask: str | None, queries: int, keys: int) -> None:
    inputs = tensors(queries, keys)
    chosen = {
        None: None,
        "bool": torch.rand(queries, keys, generator=torch.Generator().manual_seed(0)) < 0.7,
        "additive": torch.randn(2, 1, queries, keys, dtype=torch.float64),
    }[mask]
    results = []
    for backend in ("sdpa", "reference"):
        output = attention(*inputs, mask=chosen, backend=backend)
        results.append((output, *torch.autograd.grad(output.square().sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
def test_a_query_without_keys_gets_zero_and_finite_gradients(backend: str) -> None:
    inputs = tensors()
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[2] = False
    output = attention(*inputs, mask=mask, backend=backend)
    assert not output[:, :, 2].any() and output[:, :, 3].all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
def test_dropout_keeps_the_mean(backend: str) -> None:
    torch.manual_seed(0)
    query, key, value = (tensor.detach() for tensor in tensors())
    kept = attention(query, key, value, backend=backend)
    dropped = torch.stack([attention(query, key, value, dropout=0.3, backend=backend) for _ in range(2000)])
    assert (dropped.mean(0) - kept).abs().max() < 0.1 and dropped.std(0).min() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(5, 4)}, r"query has shape \(5, 4\), expected \(B, M, Q, D\)"),
        ({"key": torch.zeros(2, 3, 7, 5)}, "key has shape .*expected .2, 3, K, 4"),
        ({"value": torch.zeros(2, 3, 6, 6)}, "value has shape .*expected .2, 3, 7, D"),
        ({"mask": torch.zeros(5, 6, dtype=torch.bool)}, "mask has shape .*expected .*5, 7"),
        ({"mask": torch.zeros(5, 7, dtype=torch.int64)}, "mask is torch.int64"),
        ({"dropout": 1.5}, "dropout is 1.5"),
        ({"backend": "flash"}, "backend is 'flash'"),
    ],
)
def test_mistakes_are_told(change: dict, message: str) -> None:
    arguments = dict(zip(("query", "key", "value"), tensors(), strict=True))
    with pytest.raises(UserError, match=message):
        attention(**{**arguments, **change})
