"""Multi-head self-attention against torch.nn.MultiheadAttention."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise
from torch import nn

from vislab.blocks.multi_head_attention import MultiHeadSelfAttention


def reference(block: MultiHeadSelfAttention, x: torch.Tensor, position: torch.Tensor | None) -> torch.Tensor:
    library = nn.MultiheadAttention(x.shape[-1], block.num_heads, batch_first=True).double()
    state = {name: p for name, p in block.state_dict().items() if not name.startswith("norm.")}
    library.load_state_dict(state)
    attended = x if position is None else x + position
    update, _ = library(attended, attended, x)
    return nn.functional.layer_norm(x + update, x.shape[-1:], block.norm.weight, block.norm.bias)


@pytest.mark.parametrize(("batch", "queries", "heads"), [(2, 5, 4), (1, 1, 1), (3, 2, 8)])
@pytest.mark.parametrize("with_position", [False, True])
def test_equals_torch(batch: int, queries: int, heads: int, with_position: bool) -> None:
    block = randomise(MultiHeadSelfAttention(8, heads))
    x, position = noise(batch, queries, 8, seed=1), noise(queries, 8, seed=2) if with_position else None
    torch.testing.assert_close(block(x, position), reference(block, x, position), atol=1e-12, rtol=0)


def test_dropout_acts_in_training_only() -> None:
    block = randomise(MultiHeadSelfAttention(8, 2, dropout=0.5))
    x = noise(2, 5, 8)
    torch.testing.assert_close(block.eval()(x), reference(block, x, None), atol=1e-12, rtol=0)
    torch.manual_seed(0)
    assert not torch.allclose(block.train()(x), block.eval()(x))


def test_gradients_reach_every_parameter() -> None:
    block = randomise(MultiHeadSelfAttention(8, 2))
    block(noise(2, 5, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in block.parameters())


def test_new_block_has_no_bias() -> None:
    block = MultiHeadSelfAttention(8, 2)
    assert not block.in_proj_bias.any() and not block.out_proj.bias.any()
    bound = (6 / (8 + 3 * 8)) ** 0.5
    assert 0.8 * bound < block.in_proj_weight.abs().max() <= bound


def test_heads_must_divide_channels() -> None:
    with pytest.raises(AssertionError, match="not divisible"):
        MultiHeadSelfAttention(8, 3)
