"""MsgShifT, the messenger shift transformer backbone: PVT v2 whose frames talk through messenger tokens.

TeViT section 3.2; PVT v2: Wang et al. (arXiv 2106.13797).
Shape letters: B batch, T frames, N = B * T, S patches of a frame, M messenger tokens, C channels, H W image size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.blocks.frame_aggregation import FrameConvolutionConfig, FrameTransformerConfig
from vislab.blocks.messenger_shift import MessengerShiftConfig, MessengerTransformerConfig
from vislab.blocks.spatial_reduction import (
    LAYER_NORM_EPSILON,
    PyramidTransformerLayer,
    convolve_tokens,
    split_tokens,
    to_map,
    to_patches,
)
from vislab.config import inference_only
from vislab.errors import UserError

AggregationConfig = MessengerShiftConfig | MessengerTransformerConfig | FrameConvolutionConfig | FrameTransformerConfig

PATCH_SIZES = (7, 3, 3, 3)
PATCH_STRIDES = (4, 2, 2, 2)
TOKEN_DEVIATION = 0.02


@dataclass(frozen=True)
class MsgShiftConfig:
    """MsgShifT; the default is PVT v2-B1 with 32 messenger tokens, the released backbone.

    num_tokens: messenger tokens of every frame; 0 is plain PVT v2. aggregation: what follows every layer; None leaves
    the frames apart. reductions: sides by which each stage's keys and values are reduced. tokens_in_kv_sr1: whether
    tokens are keys also where nothing is reduced (Eq. 2; not so in the release). drop_path: that of the last layer, the
    others' rise to it linearly. inference_tokens: what replaces the learned tokens outside of training (Table 12):
    nothing, zeros, or a fixed draw from the distribution that they were initialised from.
    """

    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    widths: tuple[int, int, int, int] = (64, 128, 320, 512)
    num_heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    feed_forward_ratios: tuple[int, int, int, int] = (8, 8, 4, 4)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    num_tokens: int = 32
    aggregation: AggregationConfig | None = MessengerShiftConfig()
    tokens_in_kv_sr1: bool = False
    drop_path: float = 0.1
    inference_tokens: Literal["learned", "zero", "random"] = field(default="learned", metadata=inference_only())

    def build(self) -> MsgShift:
        for width, heads in zip(self.widths, self.num_heads, strict=True):
            if width % heads:
                raise UserError(f"backbone.widths has {width}, expected a multiple of its num_heads, {heads}")
        if isinstance(self.aggregation, MessengerShiftConfig):
            groups = max(len(self.aggregation.strides), 1)
            if not self.num_tokens or self.num_tokens % groups:
                raise UserError(
                    f"backbone.num_tokens is {self.num_tokens}, expected a positive multiple of {groups}, the number of"
                    " groups that backbone.aggregation shifts"
                )
        if isinstance(self.aggregation, MessengerTransformerConfig) and not self.num_tokens:
            raise UserError("backbone.num_tokens is 0, expected some for a backbone.aggregation of messenger tokens")
        return MsgShift(self)


class OverlappingPatchEmbedding(nn.Module):
    """Strided convolution with overlapping windows and a layer norm (PVT v2 section 3.2), for patches and tokens."""

    def __init__(self, in_channels: int, channels: int, size: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, channels, size, stride=stride, padding=size // 2)
        self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """images: (N, C, H, W). tokens: (N, M, C). Returns both as (N, S + M, C'), and (h, w) with S = h * w."""
        projected = self.projection(images)
        joined = torch.cat((to_patches(projected), convolve_tokens(self.projection, tokens)), dim=1)
        return self.norm(joined), (projected.shape[2], projected.shape[3])


class MsgShiftStage(nn.Module):
    """One stage: patch embedding, layers with what follows them, layer norm."""

    def __init__(self, config: MsgShiftConfig, stage: int, in_channels: int, drop_path: list[float]) -> None:
        super().__init__()
        channels, heads, depth = config.widths[stage], config.num_heads[stage], config.depths[stage]
        ratio, reduction = config.feed_forward_ratios[stage], config.reductions[stage]
        self.embedding = OverlappingPatchEmbedding(in_channels, channels, PATCH_SIZES[stage], PATCH_STRIDES[stage])
        self.layers = nn.ModuleList(
            PyramidTransformerLayer(channels, heads, ratio, reduction, config.tokens_in_kv_sr1, rate)
            for rate in drop_path
        )
        self.aggregations = nn.ModuleDict()  # by the number of the layer that they follow
        for layer in range(depth):
            built = None if config.aggregation is None else config.aggregation.build(channels, heads, layer, depth)
            if built is not None:
                self.aggregations[str(layer)] = built
        self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPSILON)

    def forward(self, images: Tensor, tokens: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """images: (N, C, H, W), tokens: (N, M, C). Returns the stage's map (N, C', h, w) and tokens (N, M, C')."""
        num_tokens = tokens.shape[1]
        x, size = self.embedding(images, tokens)
        for index, layer in enumerate(self.layers):
            x = layer(x, size, num_tokens)
            if str(index) in self.aggregations:
                clip = [part.unflatten(0, (-1, num_frames)) for part in split_tokens(x, num_tokens)]
                x = torch.cat(self.aggregations[str(index)](*clip), dim=2).flatten(0, 1)
        patches, tokens = split_tokens(self.norm(x), num_tokens)
        return to_map(patches, size), tokens


class MsgShift(nn.Module):
    """MsgShifT (TeViT section 3.2): maps of stride 4, 8, 16 and 32. channels: their widths."""

    strides = (4, 8, 16, 32)

    def __init__(self, config: MsgShiftConfig) -> None:
        super().__init__()
        self.config, self.channels = config, config.widths
        # tokens start with the three channels of a pixel and pass the patch embeddings (msgshift.py in TeViT)
        self.messengers = nn.Parameter(torch.empty(1, config.num_tokens, 3))
        rates = [rate.item() for rate in torch.linspace(0, config.drop_path, sum(config.depths), device="cpu")]
        stages = []
        for stage, (depth, width) in enumerate(zip(config.depths, (3, *config.widths[:-1]), strict=True)):
            first = sum(config.depths[:stage])
            stages.append(MsgShiftStage(config, stage, width, rates[first : first + depth]))
        self.stages = nn.ModuleList(stages)
        self._initialise()

    def _initialise(self) -> None:
        """As PVT v2 does: truncated normal for linear layers and tokens, fan-out normal for convolutions."""
        nn.init.trunc_normal_(self.messengers, std=TOKEN_DEVIATION)
        for module in self.stages.modules():
            if not isinstance(module, nn.Linear | nn.Conv2d):
                continue
            if isinstance(module, nn.Linear) or module.kernel_size == (1, 1):
                nn.init.trunc_normal_(module.weight, std=0.02)
            else:
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, clips: Tensor) -> list[Tensor]:
        """clips: (B, T, 3, H, W), H and W multiples of 32. Returns four maps (B * T, C_l, H / stride, W / stride)."""
        num_frames, images = clips.shape[1], clips.flatten(0, 1)
        tokens = self._tokens().expand(images.shape[0], -1, -1)
        maps = []
        for stage in self.stages:
            images, tokens = stage(images, tokens, num_frames)
            maps.append(images)
        return maps

    def _tokens(self) -> Tensor:
        """(1, M, 3), the learned ones or what stands in for them outside of training."""
        kind = self.config.inference_tokens
        if self.training or kind == "learned":
            return self.messengers
        tokens = torch.zeros(self.messengers.shape)
        if kind == "random":
            # the same draw in every forward pass: predictions must not depend on how often the model was called
            nn.init.trunc_normal_(tokens, std=TOKEN_DEVIATION, generator=torch.Generator().manual_seed(0))
        return tokens.to(self.messengers)
