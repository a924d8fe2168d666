"""Multiply-adds against formulas, and TeViT's against the two numbers of its Table 4."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from tiny_tevit import TEVIT
from torch import Tensor, nn

from vislab import ops
from vislab.models.flops import Flops, count_flops
from vislab.models.msgshift import MsgShiftConfig
from vislab.models.region_masks import predict_every_mask
from vislab.models.tevit_presets import tevit


class Attends(nn.Module):
    """A convolution, a linear layer, attention among all places, a product of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 24)

    def forward(self, images: Tensor, padding_mask: Tensor) -> Tensor:
        tokens = self.convolution(images.flatten(0, 1)).flatten(2).transpose(1, 2)
        query, key, value = (part[:, None] for part in self.linear(tokens).chunk(3, dim=-1))
        return ops.attention(query, key, value)[:, 0] @ tokens.transpose(1, 2)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_operators(device: str) -> None:
    model = Attends().to(device)
    flops = count_flops(model, 3, 8, 12)
    places = 3 * 2 * 3
    convolution, linear, products = places * 8 * 3 * 16, places * 8 * 24, 3 * 6 * 6 * 8
    assert flops.attention_products == 2 * products
    assert flops.by_operator["convolution"] == convolution
    assert flops.without_attention == convolution + linear + products
    assert flops.total == flops.without_attention + 2 * products


def test_what_is_done_with_the_output_counts() -> None:
    with torch.device("meta"):
        model = TEVIT.build().eval()
    alone, more = count_flops(model, 1, 64, 64), count_flops(model, 1, 64, 64, predict_every_mask)
    assert more.attention_products == alone.attention_products
    channels, inner, places, queries = 16, 4, 16, 5
    filters = channels * 2 * channels * inner + places * 2 * channels * inner
    layers = places * 9 * channels**2 + places * 4 * channels**2 + 4 * places * channels
    assert more.without_attention - alone.without_attention == queries * (filters + layers)
    assert count_flops(model, 2, 64, 64).by_operator["convolution"] == 2 * alone.by_operator["convolution"]


@cache
def count_tevit(num_tokens: int) -> Flops:
    """One frame of 360 x 640, padded, with the masks of all queries in the last stage."""
    aggregation = None if num_tokens == 0 else MsgShiftConfig().aggregation
    backbone = replace(MsgShiftConfig(), num_tokens=num_tokens, aggregation=aggregation)
    with torch.device("meta"):
        model = replace(tevit(), backbone=backbone).build().eval()
    return count_flops(model, 1, 384, 640, predict_every_mask)


def attention_projections(num_tokens: int) -> int:
    """Of the backbone at 384 x 640 and of the heads, which attend twice."""
    total = 6 * 2 * 100 * 4 * 256 * 256
    for stage, (width, reduction) in enumerate(zip((64, 128, 320, 512), (8, 4, 2, 1), strict=True)):
        patches = 96 * 160 // 4**stage
        keys = patches // reduction**2 + (num_tokens if reduction > 1 else 0)
        total += 2 * 2 * (patches + num_tokens + keys) * width * width
    return total


def test_table_4() -> None:
    """81.97 and 82.19 are what a counter sees that hooks modules, such as mmdetection's (get_model_complexity_info).

    It knows convolutions and linear layers, not torch's attention with its projections (so STQI seems free) nor
    products of activations; it adds biases, norms and ReLUs, 0.25 G here. The 0.22 between the rows is what 32 tokens
    cost in patch embeddings, reductions and feed-forward networks. The input is one frame of 360 x 640, padded to
    384 x 640, with the masks of all 100 queries in one stage and all 40 classes.
    """
    dynamic = 100 * (6 * 49 + 196) * 2 * 256 * 64
    other_classes = 39 * 100 * 28 * 28 * 256
    seen = {}
    for tokens in (0, 32):
        seen[tokens] = count_tevit(tokens).without_attention - dynamic - attention_projections(tokens) + other_classes
    assert seen[0] / 1e9 == pytest.approx(81.97 - 0.249, abs=0.01)
    assert seen[32] / 1e9 == pytest.approx(82.19 - 0.249, abs=0.01)
    feed_forward = 2 * 32 * 2 * (8 * 64**2 + 8 * 128**2 + 4 * 320**2 + 4 * 512**2)
    embeddings = 32 * (3 * 64 + 64 * 128 + 128 * 320 + 320 * 512)
    reductions = 2 * 32 * (64**2 + 128**2 + 320**2)
    assert seen[32] - seen[0] == feed_forward + embeddings + reductions == 222_304_256


def test_messengers_cost_more_where_attention_counts() -> None:
    """0.29 G in layers and 0.26 G in attention products: 0.55 of 86.8 G in total."""
    without, with_tokens = count_tevit(0), count_tevit(32)
    assert (with_tokens.without_attention - without.without_attention) / 1e9 == pytest.approx(0.287, abs=1e-3)
    assert (with_tokens.attention_products - without.attention_products) / 1e9 == pytest.approx(0.262, abs=1e-3)
    assert with_tokens.total / 1e9 == pytest.approx(86.79, abs=0.01)
