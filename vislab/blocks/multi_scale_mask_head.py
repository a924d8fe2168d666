"""Multi-scale deformable mask head (Caelles et al., DeVIS, section 3.4); with its parts switched off, DETR's.

Shape letters: n chosen instances, T frames, M heads, C channels, H_l W_l size of level l, h w size of stride 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.modulated_deform_conv import ModulatedDeformConv2d
from vislab.errors import UserError

NUM_LEVELS = 3  # strides 8, 16, 32; stride 4 comes last


@dataclass(frozen=True)
class MultiScaleMaskHeadConfig:
    """The rows of DeVIS Table 2; all three at their weakest is the mask head of DETR on Deformable DETR.

    attention_scales: attention maps at stride 32 (1), also 16 (2), also 8 (3). encoded_features: the maps that are
    mixed in are the encoder's; otherwise C3 and C4 of the backbone, upon the projected C5 (DETR). deformable: modulated
    deformable convolutions. positive_only: in training, masks of matched queries only; read by the model.
    """

    attention_scales: int = 3
    encoded_features: bool = True
    deformable: bool = True
    positive_only: bool = True

    def build(self, channels: int, num_heads: int, backbone_channels: tuple[int, int, int]) -> MultiScaleMaskHead:
        """channels: C. backbone_channels: widths of C2, C3 and C4. Raises UserError for values out of range."""
        if not 1 <= self.attention_scales <= NUM_LEVELS:
            raise UserError(f"mask_head.attention_scales is {self.attention_scales}, expected 1 to {NUM_LEVELS}")
        check_widths(channels, num_heads)
        return MultiScaleMaskHead(self, channels, num_heads, backbone_channels)


def check_widths(channels: int, num_heads: int) -> None:
    """Raises UserError unless the mask heads can halve the width four times and split it into heads."""
    if channels % 16 or channels % num_heads:
        expected = f"a multiple of 16 (the mask head halves it four times) and of num_heads, {num_heads}"
        raise UserError(f"hidden_dim is {channels}, expected {expected}")


class MultiScaleMaskHead(nn.Module):
    """Attention maps of every query over its own frame, upsampled by convolutions that mix in the frame's features.

    Frames and instances do not see each other: without gradients they are computed in chunks of bounded memory.
    """

    chunk_pixels = 2**17  # of stride 4; about 0.4 GiB at 256 channels

    def __init__(
        self,
        config: MultiScaleMaskHeadConfig,
        channels: int,
        num_heads: int,
        backbone_channels: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.config = config
        finest, fine, middle = backbone_channels
        mixed = (channels, channels, finest) if config.encoded_features else (middle, fine, finest)
        convolution = ModulatedDeformConv2d if config.deformable else plain_convolution
        self.attention = AttentionMaps(channels, num_heads, config.attention_scales)
        self.upsampling = MaskUpsampling(channels, num_heads, config.attention_scales, mixed, convolution)
        self.output = convolution(self.upsampling.out_channels, 1)

    def forward(
        self,
        queries: Tensor,
        levels: list[Tensor],
        finest: Tensor,
        padding_masks: list[Tensor] | None = None,
        keys: list[Tensor] | None = None,
    ) -> Tensor:
        """Mask logits of the queries of one clip.

        Args:
            queries: (n, T, C), any n.
            levels: maps of stride 8, 16 and 32 to mix in. encoded_features: the encoder's, (T, C, H_l, W_l);
                otherwise C3 and C4 of the backbone (in their own widths) and the projected C5 (T, C, H_l, W_l), as in
                facebookresearch/detr models/segmentation.py.
            finest: (T, C2's width, h, w), C2 of the backbone.
            padding_masks: like keys, (H_l, W_l) bool, True where padded (the same in all frames of a clip).
            keys: encoded maps (T, C, H_l, W_l) that the queries attend to, finest first, the last of stride 32; the
                last attention_scales of them are used. None: levels.

        Returns:
            (n, T, h, w) of stride 4.
        """
        maps = self.attention(queries, levels if keys is None else keys, padding_masks)
        features = self.upsampling.adapt([*levels[::-1], finest])
        num_frames = queries.shape[1]
        frame_index = torch.arange(num_frames, device=queries.device).repeat(len(queries))
        flat = [scale.flatten(0, 1) for scale in maps]
        chunk = len(frame_index) if torch.is_grad_enabled() else self.chunk_pixels // finest[0, 0].numel()
        parts = zip(frame_index.split(max(chunk, 1)), *(scale.split(max(chunk, 1)) for scale in flat), strict=True)
        logits = [self.output(self.upsampling(list(scales), features, index)) for index, *scales in parts]
        return torch.cat(logits)[:, 0].unflatten(0, (len(queries), num_frames))


class AttentionMaps(nn.Module):
    """Attention of queries over the pixels of their own frame, without values (Carion et al., DETR).

    Per scale its own q and k; scale D^-1/2; one softmax over heads AND pixels, so that the M maps of a query sum to 1
    together (acaelles97/DeVIS src/models/deformable_segmentation.py:286-316). Index 0 of the projections is stride 32.
    """

    def __init__(self, channels: int, num_heads: int, num_scales: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_projections = nn.ModuleList(nn.Linear(channels, channels) for _ in range(num_scales))
        self.key_projections = nn.ModuleList(nn.Linear(channels, channels) for _ in range(num_scales))
        for projection in (*self.query_projections, *self.key_projections):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, queries: Tensor, keys: list[Tensor], padding_masks: list[Tensor] | None = None) -> list[Tensor]:
        """queries: (n, T, C); keys: (T, C, H_l, W_l) each, finest first; padding_masks: (H_l, W_l) bool each.

        Returns one (n, T, M, H_l, W_l) per scale, COARSEST first.
        """
        scales = len(self.query_projections)
        assert len(keys) >= scales, f"{scales} attention scales need as many encoded maps, got {len(keys)}"
        masks = [None] * scales if padding_masks is None else padding_masks[::-1][:scales]
        projections = zip(self.query_projections, self.key_projections, keys[::-1][:scales], masks, strict=True)
        return [self._map(query(queries), key, level, mask) for query, key, level, mask in projections]

    def _map(self, query: Tensor, projection: nn.Module, level: Tensor, mask: Tensor | None) -> Tensor:
        query = query.unflatten(-1, (self.num_heads, -1))
        key = projection(level.flatten(2).transpose(1, 2)).unflatten(-1, (self.num_heads, -1))
        scores = torch.einsum("ntmd,tsmd->ntms", query * query.shape[-1] ** -0.5, key)
        if mask is not None:
            scores = scores.masked_fill(mask.flatten(), float("-inf"))
        return scores.flatten(2).softmax(-1).view_as(scores).unflatten(-1, level.shape[-2:])


class MaskUpsampling(nn.Module):
    """Stride 32 to stride 4, halving the width: 3x3 convolution, GroupNorm, ReLU; nearest upsampling; 1x1 adapters.

    Attention maps join their scale AFTER the adapted features have been added
    (acaelles97/DeVIS src/models/deformable_segmentation.py:323-392). out_channels: C / 16.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        attention_scales: int,
        feature_channels: tuple[int, int, int],
        convolution: Callable[[int, int], nn.Module],
        last_convolution: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        """feature_channels: widths of the maps to mix in at stride 16, 8 and 4."""
        super().__init__()
        widths = [channels // 2**step for step in range(5)]
        sources = [width + num_heads * (scale < attention_scales) for scale, width in enumerate(widths[:4])]
        targets = [sources[0], *widths[1:]]
        kinds = [convolution] * 4 + [last_convolution or convolution]
        pairs = zip(kinds, [sources[0], *sources], targets, strict=True)
        self.out_channels = widths[-1]
        self.convolutions = nn.ModuleList(kind(source, target) for kind, source, target in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, target), target) for target in targets)
        self.adapters = nn.ModuleList(
            plain_convolution(source, target, kernel_size=1)
            for source, target in zip(feature_channels, widths[1:4], strict=True)
        )

    def adapt(self, features: list[Tensor]) -> list[Tensor]:
        """Four maps of stride 32, 16, 8 and 4, once per frame: in the widths C, C / 2, C / 4 and C / 8."""
        base, *finer = features
        return [base, *(adapter(feature) for adapter, feature in zip(self.adapters, finer, strict=True))]

    def forward(self, maps: list[Tensor], features: list[Tensor], frame_index: Tensor) -> Tensor:
        """maps: (N, M, H_l, W_l), coarsest first; features: from adapt, (T, width, H_l, W_l); frame_index: (N,).

        Returns (N, C / 16, h, w).
        """
        x = torch.cat((features[0].index_select(0, frame_index), maps[0]), dim=1)
        x = self._refine(1, self._refine(0, x))
        for level, feature in enumerate(features[1:], start=1):
            x = functional.interpolate(x, size=feature.shape[-2:], mode="nearest")
            x = x + feature.index_select(0, frame_index)
            if level < len(maps):
                x = torch.cat((x, maps[level]), dim=1)
            x = self._refine(level + 1, x)
        return x

    def _refine(self, index: int, x: Tensor) -> Tensor:
        return self.norms[index](self.convolutions[index](x)).relu()


def plain_convolution(in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size, started as in DETR's mask head."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    assert convolution.bias is not None
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    nn.init.zeros_(convolution.bias)
    return convolution
