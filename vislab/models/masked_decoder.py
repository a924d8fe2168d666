"""Masked-attention decoder: the frame around Mask2Former-VIS' layers and around IFR's.

Shape letters: B batch, T frames, Q queries, L levels, K classes, C channels, h w mask size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.feed_forward import MLP
from vislab.blocks.frame_memory import FrameMemory
from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig
from vislab.blocks.kernel_masks import KernelMasks
from vislab.blocks.masked_attention import foreground
from vislab.blocks.volume_encoding import frame_sine_encoding, volume_sine_encoding
from vislab.blocks.volumetric_queries import VolumetricQueriesConfig
from vislab.models.pixel_decoder import PixelFeatures, reset_feed_forwards

LayerConfig = VolumetricQueriesConfig | InterFrameRecurrentConfig


@dataclass(frozen=True)
class MaskedDecoderConfig:
    """num_layers: 9 in Mask2Former; layer i looks at level i mod 3, coarsest first. layer: how queries and frames meet,
    the slot that makes the model IFR or its baseline."""

    num_layers: int = 9
    layer: LayerConfig = VolumetricQueriesConfig()


class Prediction(NamedTuple):
    """logits: (B, Q, K). masks: kernels (B, T or 1, Q, C) and features. frames: (B, T or 1, Q, C), the queries that the
    kernels come from."""

    logits: Tensor
    masks: KernelMasks
    frames: Tensor


class MaskedDecoder(nn.Module):
    """Learned queries, layers of masked attention, and prediction heads that all layers share.

    The learned queries themselves predict, before the first layer (facebookresearch/Mask2Former mask2former_video/
    modeling/transformer_decoder/video_mask2former_transformer_decoder.py:386-427).

    Args:
        num_logits: K. prior: probability of a class at the start, where it is a sigmoid; None leaves the bias at zero.
    """

    def __init__(
        self, channels: int, num_heads: int, num_queries: int, num_levels: int, num_logits: int,
        config: MaskedDecoderConfig, dropout: float, prior: float | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.query_features = nn.Embedding(num_queries, channels)
        self.query_position = nn.Embedding(num_queries, channels)
        self.level_embed = nn.Embedding(num_levels, channels)
        self.layers = nn.ModuleList(config.layer.build(channels, num_heads, dropout) for _ in range(config.num_layers))
        reset_feed_forwards(self.layers)
        self.norm = nn.LayerNorm(channels)
        self.class_head = nn.Linear(channels, num_logits)
        self.mask_head = MLP(channels, channels, channels, 3)
        if prior is not None:
            nn.init.constant_(self.class_head.bias, math.log(prior / (1 - prior)))

    def forward(self, features: PixelFeatures) -> list[Prediction]:
        """Returns one prediction before the first layer and one after each."""
        batch, num_levels = features.masks.shape[0], len(features.levels)
        position = self.query_position.weight
        clip = self.query_features.weight.expand(batch, -1, -1)
        clips = features.masks.unbind()
        predictions = [self._predict(clip, clip[:, None], clips)]
        memory = [self._memory(level, index) for index, level in enumerate(features.levels)]
        small = [_resized(features.masks, level.shape[-2:]) for level in features.levels]
        for index, layer in enumerate(self.layers):
            level = index % num_levels
            mask = self._attention_mask(predictions[-1].masks.kernels, small[level])
            clip, frames = layer(clip, position, memory[level], mask)
            predictions.append(self._predict(clip, frames, clips))
        return predictions

    def _predict(self, clip: Tensor, frames: Tensor, features: tuple[Tensor, ...]) -> Prediction:
        kernels = self.mask_head(self.norm(frames))
        return Prediction(self.class_head(self.norm(clip)), KernelMasks(kernels, features), frames)

    def _memory(self, level: Tensor, index: int) -> FrameMemory:
        """level: (B, T, C, H_l, W_l)."""
        num_frames, channels, *size = level.shape[1:]
        tokens = level.flatten(3).transpose(2, 3) + self.level_embed.weight[index]
        position = volume_sine_encoding(num_frames, (size[0], size[1]), channels, level.device).flatten(1, 2)
        frame_position = frame_sine_encoding(num_frames, channels, level.device)
        return FrameMemory(tokens, position.to(tokens), frame_position.to(tokens))

    @staticmethod
    @torch.no_grad()
    def _attention_mask(kernels: Tensor, features: Tensor) -> Tensor:
        """(B, T, Q, H_l * W_l) bool. Resizing features before the product gives the mask logits, resized, without
        computing them at stride 4: both are linear."""
        return foreground(torch.matmul(kernels, features.flatten(3)).unflatten(-1, features.shape[-2:]))


@torch.no_grad()
def _resized(features: Tensor, size: torch.Size) -> Tensor:
    """(B, T, C, h, w) to (B, T, C, *size), bilinear."""
    flat = functional.interpolate(features.flatten(0, 1), size=tuple(size), mode="bilinear", align_corners=False)
    return flat.unflatten(0, features.shape[:2])
