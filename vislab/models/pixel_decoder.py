"""Multi-scale deformable pixel decoder of Mask2Former: deformable encoder over strides 32, 16 and 8, FPN to stride 4.

Shape letters: B batch, T frames, L levels, C channels, H W image size, S sum of H*W over levels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.feed_forward import FeedForward
from vislab.blocks.position_encoding import spatial_sine_encoding
from vislab.models.encoder import Encoder, EncoderConfig, encoder_reference_points
from vislab.models.trunk import input_projections


class PixelFeatures(NamedTuple):
    """levels: (B, T, C, H_l, W_l) of strides 32, 16, 8. masks: (B, T, C, H / 4, W / 4), which kernels multiply."""

    levels: list[Tensor]
    masks: Tensor


def _convolution(in_channels: int, channels: int, size: int, bias: bool) -> nn.Conv2d:
    """With the initialisation that the release gives its FPN (detectron2's c2_xavier_fill)."""
    convolution = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=bias)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


class PixelDecoder(nn.Module):
    """Deformable encoder and one FPN step (facebookresearch/Mask2Former mask2former/modeling/pixel_decoder/
    msdeformattn.py). Padding is treated as image, as there.

    Args:
        widths: channels of C2, C3, C4, C5. channels: C of all that comes out.
        encoder: its temporal block is a slot; None, as released, treats every frame alone.
        clip_length: T, for a temporal block that is made for one.
    """

    def __init__(
        self, widths: tuple[int, ...], channels: int, num_heads: int, encoder: EncoderConfig, dropout: float,
        clip_length: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        finest, *deeper = widths
        groups = math.gcd(32, channels)
        # coarsest level first, as in the release: its level embedding and sampling weights are in this order
        self.input_proj = input_projections(tuple(deeper), channels, len(deeper))[::-1]
        self.level_embed = nn.Parameter(torch.randn(len(deeper), channels))
        self.encoder = Encoder(channels, num_heads, len(deeper), encoder, dropout, clip_length)
        reset_feed_forwards(self.encoder)
        self.lateral = nn.Sequential(_convolution(finest, channels, 1, bias=False), nn.GroupNorm(groups, channels))
        self.smooth = nn.Sequential(
            _convolution(channels, channels, 3, bias=False), nn.GroupNorm(groups, channels), nn.ReLU()
        )
        self.mask_features = _convolution(channels, channels, 1, bias=True)

    def forward(self, features: list[Tensor], batch: int) -> PixelFeatures:
        """features: C2 to C5 of all frames, (B * T, width, H_l, W_l); batch: B."""
        finest, *deeper = features
        maps = [project(feature) for project, feature in zip(self.input_proj, reversed(deeper), strict=True)]
        levels = self._encode(maps, batch)
        lateral = self.lateral(finest)
        upsampled = functional.interpolate(levels[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        masks = self.mask_features(self.smooth(lateral + upsampled))
        return PixelFeatures([level.unflatten(0, (batch, -1)) for level in levels], masks.unflatten(0, (batch, -1)))

    def _encode(self, maps: list[Tensor], batch: int) -> list[Tensor]:
        """maps: L of (B * T, C, H_l, W_l), which is what is returned."""
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        device, channels = maps[0].device, maps[0].shape[1]
        unpadded = [torch.zeros(1, *shape, dtype=torch.bool, device=device) for shape in shapes]
        position = torch.cat(
            [
                spatial_sine_encoding(mask, channels, offset=0.0).flatten(1, 2) + embedding
                for mask, embedding in zip(unpadded, self.level_embed, strict=True)
            ],
            dim=1,
        )
        ratios = torch.ones(batch, len(maps), 2, device=device)
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1).unflatten(0, (batch, -1))
        reference = encoder_reference_points(shapes, ratios)
        tokens = self.encoder(tokens, position[:, None], reference, torch.tensor(shapes), None)
        parts = tokens.flatten(0, 1).transpose(1, 2).split([height * width for height, width in shapes], dim=2)
        return [part.unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]


def reset_feed_forwards(module: nn.Module) -> None:
    """Xavier-uniform weights in every feed-forward network below module, as in the release."""
    for part in module.modules():
        if isinstance(part, FeedForward):
            nn.init.xavier_uniform_(part.linear1.weight)
            nn.init.xavier_uniform_(part.linear2.weight)
