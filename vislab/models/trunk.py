"""What SeqFormer, TAFormer, Deformable DETR and DeVIS have in common: backbone, input projections, deformable encoder.

Shape letters: B batch, T frames, L levels, C channels, H W image size, S sum of H*W over levels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vislab.blocks.position_encoding import spatial_sine_encoding
from vislab.errors import UserError
from vislab.models.backbones import STRIDES, Backbone
from vislab.models.encoder import Encoder, EncoderConfig, Memory, encoder_reference_points, valid_ratios


class FeatureMaps(NamedTuple):
    """raw: what the backbone returns, finest first, (B, T, width, H_l, W_l); projected: L maps (B, T, C, H_l, W_l)."""

    raw: list[Tensor]
    projected: list[Tensor]


def check_widths(hidden_dim: int, num_heads: int, num_levels: int) -> None:
    """Raises UserError for widths and levels that no trunk can have."""
    if hidden_dim % num_heads or hidden_dim % 4:
        raise UserError(f"hidden_dim is {hidden_dim}, expected a multiple of 4 and of num_heads, {num_heads}")
    if num_levels != 1 and num_levels < len(STRIDES):
        expected = f"1 (stride 32) or at least {len(STRIDES)} (C3, C4, C5)"
        raise UserError(f"num_levels is {num_levels}, expected {expected}")


def input_projections(widths: tuple[int, ...], channels: int, levels: int) -> nn.ModuleList:
    """1x1 convolutions from C3, C4 and C5, or from C5 alone; strided 3x3 ones make the coarser levels."""
    known = widths[-1:] if levels == 1 else widths[-len(STRIDES) :]
    convolutions = [nn.Conv2d(width, channels, 1) for width in known]
    for extra in range(levels - len(known)):
        convolutions.append(nn.Conv2d(known[-1] if extra == 0 else channels, channels, 3, stride=2, padding=1))
    for convolution in convolutions:
        assert convolution.bias is not None
        nn.init.xavier_uniform_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    groups = math.gcd(32, channels)
    return nn.ModuleList(nn.Sequential(convolution, nn.GroupNorm(groups, channels)) for convolution in convolutions)


def level_masks(padding_mask: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
    """padding_mask (B, H, W) on every level: (B, H_l, W_l) bool each."""
    mask = padding_mask[:, None].float()
    return [nn.functional.interpolate(mask, size=shape)[:, 0] > 0.5 for shape in shapes]


def unpadded_size(padding_mask: Tensor) -> Tensor:
    """padding_mask: (B, H, W). Returns (B, 2), (width, height) of the clips without padding, in pixels."""
    width, height = (~padding_mask[:, 0, :]).sum(-1), (~padding_mask[:, :, 0]).sum(-1)
    return torch.stack((width, height), dim=-1).float()


class DeformableTrunk(nn.Module):
    """Backbone, input projections, level embedding, encoder.

    Args:
        backbone: its last three maps (the last one for num_levels 1) are projected to C channels.
        clip_length: T if the model takes clips of exactly so many frames, otherwise None.
        position_offset: of the sine encoding: -0.5 or 0, see `spatial_sine_encoding`.
        mask_padding: values of padded tokens are zero (Deformable DETR, SeqFormer) or sampled as they are (DeVIS).
    """

    def __init__(
        self, backbone: Backbone, channels: int, num_heads: int, num_levels: int, encoder: EncoderConfig,
        dropout: float, clip_length: int | None, position_offset: float = -0.5, mask_padding: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.clip_length, self.position_offset, self.mask_padding = clip_length, position_offset, mask_padding
        self.backbone = backbone
        self.input_proj = input_projections(backbone.channels, channels, num_levels)
        self.level_embed = nn.Parameter(torch.randn(num_levels, channels))
        self.encoder = Encoder(channels, num_heads, num_levels, encoder, dropout, clip_length)

    def extract(self, images: Tensor) -> FeatureMaps:
        """images: (B, T, 3, H, W). Raises UserError if the model needs another number of frames."""
        batch, num_frames = images.shape[:2]
        if self.clip_length not in (None, num_frames):
            raise UserError(f"clip of {num_frames} frames, expected the model's clip_length of {self.clip_length}")
        raw = self.backbone(images.flatten(0, 1))
        known = raw[-1:] if len(self.input_proj) == 1 else raw[-len(STRIDES) :]
        maps = [projection(feature) for projection, feature in zip(self.input_proj, known, strict=False)]
        for index in range(len(known), len(self.input_proj)):
            maps.append(self.input_proj[index](known[-1] if index == len(known) else maps[-1]))
        return FeatureMaps(*([part.unflatten(0, (batch, -1)) for part in parts] for parts in (raw, maps)))

    def encode(self, maps: list[Tensor], padding_mask: Tensor, temporal_position: Tensor | None) -> Memory:
        """maps: L of (B, T, C, H_l, W_l); padding_mask: (B, H, W); temporal_position: (T, C), added to queries."""
        shapes = [(feature_map.shape[-2], feature_map.shape[-1]) for feature_map in maps]
        masks = level_masks(padding_mask, shapes)
        channels = self.level_embed.shape[1]
        position = torch.cat(
            [
                spatial_sine_encoding(mask, channels, self.position_offset).flatten(1, 2) + self.level_embed[level]
                for level, mask in enumerate(masks)
            ],
            dim=1,
        )[:, None]
        if temporal_position is not None:
            position = position + temporal_position[:, None]
        tokens = torch.cat([feature_map.flatten(3).transpose(2, 3) for feature_map in maps], dim=2)
        padding = torch.cat([mask.flatten(1) for mask in masks], dim=1) if self.mask_padding else None
        ratios = valid_ratios(masks)
        spatial_shapes = torch.tensor(shapes, dtype=torch.int64)
        reference = encoder_reference_points(shapes, ratios)
        tokens = self.encoder(tokens, position, reference, spatial_shapes, padding)
        return Memory(tokens, padding, ratios, spatial_shapes)

    def encoded_maps(self, tokens: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """tokens (B, T, S, C) as L maps (B, T, C, H_l, W_l) of the sizes of `maps`."""
        sizes = [feature_map.shape[-2:] for feature_map in maps]
        parts = tokens.split([height * width for height, width in sizes], dim=2)
        return [part.transpose(2, 3).unflatten(3, size) for part, size in zip(parts, sizes, strict=True)]
