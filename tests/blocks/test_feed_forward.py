"""Feed-forward network and MLP against their formulas."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise

from vislab.blocks.feed_forward import MLP, FeedForward


def test_feed_forward_is_a_post_norm_residual() -> None:
    block, x = randomise(FeedForward(6, 10)), noise(2, 3, 6)
    update = (x @ block.linear1.weight.T + block.linear1.bias).clamp(min=0) @ block.linear2.weight.T
    y = x + update + block.linear2.bias
    unit = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(block(x), unit * block.norm.weight + block.norm.bias)


def test_feed_forward_dropout_acts_in_training_only() -> None:
    block, x = randomise(FeedForward(6, 10, dropout=0.5)), noise(2, 3, 6)
    without = randomise(FeedForward(6, 10))
    torch.testing.assert_close(block.eval()(x), without(x))
    torch.manual_seed(0)
    assert not torch.allclose(block.train()(x), without(x))


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_mlp(num_layers: int) -> None:
    block, x = randomise(MLP(5, 7, 4, num_layers)), noise(2, 3, 5)
    expected = x
    for index, layer in enumerate(block.layers):
        expected = expected @ layer.weight.T + layer.bias
        expected = expected.clamp(min=0) if index < num_layers - 1 else expected
    assert len(block.layers) == num_layers
    torch.testing.assert_close(block(x), expected)
