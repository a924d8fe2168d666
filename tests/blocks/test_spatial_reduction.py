"""Transformer layers with messenger tokens: constant maps, torch's attention, the two rules for keys."""

from __future__ import annotations

import pytest
import torch
from slow_deformable import noise, randomise
from torch import nn

from vislab.blocks.spatial_reduction import (
    ConvolutionalFeedForward,
    PyramidTransformerLayer,
    SpatialReductionAttention,
    convolve_tokens,
)


@pytest.mark.parametrize(
    "convolution", [nn.Conv2d(4, 6, 3), nn.Conv2d(4, 4, 5, groups=4), nn.Conv2d(4, 6, 1, bias=False)], ids=str
)
def test_tokens_pass_convolutions_as_constant_maps_do(convolution: nn.Conv2d) -> None:
    tokens = noise(2, 3, 4)
    convolution = randomise(convolution)
    constant = tokens.flatten(0, 1)[:, :, None, None].expand(-1, -1, 9, 9)
    expected = convolution(constant)[:, :, 1, 2].unflatten(0, (2, 3))
    torch.testing.assert_close(convolve_tokens(convolution, tokens), expected)


@pytest.mark.parametrize("num_tokens", [0, 3])
@pytest.mark.parametrize(("reduction", "tokens_in_kv"), [(2, False), (2, True), (1, False), (1, True)])
def test_attention_equals_torch(reduction: int, tokens_in_kv: bool, num_tokens: int) -> None:
    """Size 5 x 6: the reduction by 2 leaves the last row out."""
    block = randomise(SpatialReductionAttention(8, 2, reduction, tokens_in_kv))
    x, size = noise(2, 30 + num_tokens, 8), (5, 6)
    patches, tokens = x[:, :30], x[:, 30:]
    source = x if tokens_in_kv else patches
    if reduction > 1:
        reduced = block.reduce(patches.transpose(1, 2).reshape(2, 8, 5, 6)).flatten(2).transpose(1, 2)
        assert reduced.shape[1] == 6
        kernel = block.reduce.weight.sum((2, 3))
        source = block.reduce_norm(torch.cat((reduced, tokens @ kernel.T + block.reduce.bias), dim=1))
    library = nn.MultiheadAttention(8, 2, batch_first=True).double()
    library.load_state_dict({n: p for n, p in block.state_dict().items() if not n.startswith("reduce")})
    expected = library(x, source, source)[0]
    torch.testing.assert_close(block(x, size, num_tokens), expected, atol=1e-12, rtol=0)


def test_who_reads_the_tokens() -> None:
    """With reduction all patches do; without it, only where tokens are keys (Eq. 2), which the release leaves out."""
    for reduction, tokens_in_kv, read in ((2, False, True), (1, False, False), (1, True, True)):
        block = randomise(SpatialReductionAttention(8, 2, reduction, tokens_in_kv))
        x = noise(1, 18, 8)
        changed = x.clone()
        changed[:, 16:] += 1
        difference = (block(changed, (4, 4), 2) - block(x, (4, 4), 2)).abs().amax(-1)[0, :16] > 1e-9
        assert difference.all() if read else not difference.any(), (reduction, tokens_in_kv)


@pytest.mark.parametrize("num_tokens", [0, 2])
def test_feed_forward(num_tokens: int) -> None:
    block = randomise(ConvolutionalFeedForward(4, 6))
    x = noise(2, 15 + num_tokens, 4)
    maps = x[:, :15].transpose(1, 2).reshape(2, 4, 3, 5)
    out = block(x, (3, 5), num_tokens)
    expected = block.contract(nn.functional.gelu(block.depthwise(block.expand(maps))))
    torch.testing.assert_close(out[:, :15], expected.flatten(2).transpose(1, 2))
    for token in range(num_tokens):
        constant = x[:, 15 + token, :, None, None].expand(-1, -1, 3, 3)
        centre = block.contract(nn.functional.gelu(block.depthwise(block.expand(constant))))[:, :, 1, 1]
        torch.testing.assert_close(out[:, 15 + token], centre)


def test_drop_path_leaves_out_whole_frames_in_training_only() -> None:
    layer = randomise(PyramidTransformerLayer(4, 1, 2, 2, False, drop_path=0.5))
    x = noise(64, 18, 4)
    torch.manual_seed(0)
    dropped = (layer.train()(x, (4, 4), 2) == x).all(2).all(1)
    assert 4 < dropped.sum() < 32, "a quarter of the frames skips both branches"
    assert not (layer.eval()(x, (4, 4), 2) == x).all(2).all(1).any()
    plain = PyramidTransformerLayer(4, 1, 2, 2, False).double()
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(plain.train()(x, (4, 4), 2), layer(x, (4, 4), 2))
