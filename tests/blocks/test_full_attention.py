"""Attention between two sets of tokens against torch.nn.MultiheadAttention."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise
from torch import nn

from vislab.blocks.full_attention import MultiHeadAttention


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 7)])
def test_equals_torch(queries: int, keys: int, padded: bool) -> None:
    block = randomise(MultiHeadAttention(12, 3))
    assert isinstance(block, MultiHeadAttention)
    library = nn.MultiheadAttention(12, 3, batch_first=True).double()
    library.load_state_dict({name: value for name, value in block.state_dict().items() if "norm" not in name})
    x, position, key, value = (
        noise(2, queries, 12),
        noise(queries, 12, seed=1),
        noise(2, keys, 12, seed=2),
        noise(2, keys, 12),
    )
    padding = torch.zeros(2, keys, dtype=torch.bool)
    padding[0, 1:] = padded
    expected = library(x + position, key, value, key_padding_mask=padding)[0]
    torch.testing.assert_close(block(x, position, key, value, padding), block.norm(x + expected))
    if not padded:
        torch.testing.assert_close(block(x, position, key, value), block.norm(x + expected))


def test_dropout_acts_in_training_only() -> None:
    block = MultiHeadAttention(8, 2, dropout=0.5)
    x = noise(1, 4, 8).float()
    assert not torch.equal(block(x, x, x, x), block(x, x, x, x))
    block.eval()
    assert torch.equal(block(x, x, x, x), block(x, x, x, x))


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(AssertionError, match="not divisible"):
        MultiHeadAttention(10, 4)
