"""Layers of a pyramid vision transformer that carry messenger tokens beside the patches.

Shape letters: N frames, S patches (h * w), M messenger tokens, C channels, H attention heads, D channels per head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab import ops
from vislab.blocks.attention_projections import AttentionProjections

LAYER_NORM_EPSILON = 1e-6


def convolve_tokens(convolution: nn.Conv2d, tokens: Tensor) -> Tensor:
    """What a convolution does to a map that is constant: its kernel summed over space, and its bias.

    So messenger tokens, which have no place, pass the convolutions of the backbone (TeViT mmdet/models/backbones/
    msgshift.py). convolution: ordinary or depthwise. tokens: (N, M, C). Returns (N, M, C').
    """
    kernel = convolution.weight.sum((2, 3))
    if convolution.groups == 1:
        return functional.linear(tokens, kernel, convolution.bias)
    assert convolution.groups == convolution.in_channels == convolution.out_channels, "only depthwise groups"
    update = tokens * kernel[:, 0]
    return update if convolution.bias is None else update + convolution.bias


def split_tokens(x: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
    """(N, S + M, C) -> patches (N, S, C), tokens (N, M, C)."""
    patches, tokens = x.split((x.shape[1] - num_tokens, num_tokens), dim=1)
    return patches, tokens


def to_map(patches: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, S, C) -> (N, C, h, w)."""
    return patches.transpose(1, 2).unflatten(2, size)


def to_patches(feature_map: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, S, C)."""
    return feature_map.flatten(2).transpose(1, 2)


class SpatialReductionAttention(AttentionProjections):
    """SRA: MHSA whose keys and values come from a map reduced by a strided convolution (Wang et al., PVT section 3.3).

    Messenger tokens are queries, and keys too (TeViT Eq. 2); without reduction they are keys only if tokens_in_kv_sr1,
    since the released backbone leaves them out there.
    """

    def __init__(self, channels: int, num_heads: int, reduction: int, tokens_in_kv_sr1: bool) -> None:
        super().__init__(channels, num_heads)
        self.tokens_in_kv_sr1 = tokens_in_kv_sr1
        self.reduce = nn.Conv2d(channels, channels, reduction, stride=reduction) if reduction > 1 else None
        self.reduce_norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON) if reduction > 1 else None
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, size: tuple[int, int], num_tokens: int) -> Tensor:
        """x: (N, S + M, C) with S = size[0] * size[1]. Returns the same shape."""
        channels = x.shape[-1]
        query_weight, source_weight = self.in_proj_weight.split((channels, 2 * channels))
        query_bias, source_bias = self.in_proj_bias.split((channels, 2 * channels))
        query = functional.linear(x, query_weight, query_bias)
        key, value = functional.linear(self._source(x, size, num_tokens), source_weight, source_bias).chunk(2, dim=-1)
        return self._merge_heads(ops.attention(*(self._split_heads(part) for part in (query, key, value))))

    def _source(self, x: Tensor, size: tuple[int, int], num_tokens: int) -> Tensor:
        """What keys and values are made of."""
        patches, tokens = split_tokens(x, num_tokens)
        if self.reduce is None or self.reduce_norm is None:
            return x if self.tokens_in_kv_sr1 else patches
        reduced = to_patches(self.reduce(to_map(patches, size)))
        return self.reduce_norm(torch.cat((reduced, convolve_tokens(self.reduce, tokens)), dim=1))


class ConvolutionalFeedForward(nn.Module):
    """Feed-forward network with a 3x3 depthwise convolution, which also tells places apart (Wang et al., PVT v2).

    W2 gelu(depthwise(W1 x)); no residual and no norm. W1 and W2 are stored as 1x1 convolutions, as released.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden_channels, 1)
        self.depthwise = nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1, groups=hidden_channels)
        self.contract = nn.Conv2d(hidden_channels, channels, 1)

    def forward(self, x: Tensor, size: tuple[int, int], num_tokens: int) -> Tensor:
        """x: (N, S + M, C) with S = size[0] * size[1]. Returns the same shape."""
        patches, tokens = split_tokens(convolve_tokens(self.expand, x), num_tokens)
        patches = to_patches(self.depthwise(to_map(patches, size)))
        hidden = torch.cat((patches, convolve_tokens(self.depthwise, tokens)), dim=1)
        return convolve_tokens(self.contract, functional.gelu(hidden))


class PyramidTransformerLayer(nn.Module):
    """Pre-norm SRA and convolutional FFN with residuals (PVT v2), patches and messenger tokens alike.

    drop_path: probability with which a frame's residual branch is left out in training (Huang et al., 1603.09382).
    """

    def __init__(
        self, channels: int, num_heads: int, feed_forward_ratio: int, reduction: int, tokens_in_kv_sr1: bool,
        drop_path: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.drop_path = drop_path
        self.attention_norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
        self.attention = SpatialReductionAttention(channels, num_heads, reduction, tokens_in_kv_sr1)
        self.feed_forward_norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)
        self.feed_forward = ConvolutionalFeedForward(channels, feed_forward_ratio * channels)

    def forward(self, x: Tensor, size: tuple[int, int], num_tokens: int) -> Tensor:
        """x: (N, S + M, C) with S = size[0] * size[1]. Returns the same shape."""
        x = x + self._drop(self.attention(self.attention_norm(x), size, num_tokens))
        return x + self._drop(self.feed_forward(self.feed_forward_norm(x), size, num_tokens))

    def _drop(self, update: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return update
        kept = torch.rand(update.shape[0], 1, 1, device=update.device) >= self.drop_path
        return update * kept / (1 - self.drop_path)
