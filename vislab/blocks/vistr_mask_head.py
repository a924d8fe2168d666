"""VisTR's mask head (Wang et al., "End-to-End Video Instance Segmentation with Transformers", section 3.3).

Shape letters: n chosen instances, T frames, C channels, H_l W_l size of level l, h w size of stride 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vislab.blocks.modulated_deform_conv import TAPS, deform_conv2d
from vislab.blocks.multi_scale_mask_head import AttentionMaps, MaskUpsampling, check_widths, plain_convolution


@dataclass(frozen=True)
class VisTRMaskHeadConfig:
    """Attention maps at stride 32, DETR's upsampling, then 3-D convolutions over the frames of each instance.

    deformable: the last 2-D convolution is deformable (VisTR's release); False: plain (the ablations of DeVIS,
    acaelles97/DeVIS configs/devis/ablations/*.yaml with CONV_HEAD_3D). volume_channels: width of the 3-D part.
    positive_only: in training, masks of matched queries only; read by the model.
    """

    deformable: bool = True
    volume_channels: int = 12
    positive_only: bool = True

    def build(self, channels: int, num_heads: int, backbone_channels: tuple[int, int, int]) -> VisTRMaskHead:
        """channels: C. backbone_channels: widths of C2, C3 and C4. Raises UserError for values out of range."""
        check_widths(channels, num_heads)
        return VisTRMaskHead(self, channels, num_heads, backbone_channels)


class DeformConv2d(nn.Module):
    """DCNv1 (Dai et al., arXiv 1703.06211) with offsets from a 1x1 convolution that starts at zero, no bias
    (Epiphqny/VisTR models/segmentation.py, MaskHeadSmallConv)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(in_channels, 2 * TAPS, 1)
        self.regular_conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        assert self.offset_conv.bias is not None
        nn.init.zeros_(self.offset_conv.weight)
        nn.init.zeros_(self.offset_conv.bias)
        nn.init.kaiming_uniform_(self.regular_conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns (N, O, H, W)."""
        return deform_conv2d(x, self.regular_conv.weight, self.offset_conv(x))


class VisTRMaskHead(nn.Module):
    """Masks of an instance from its attention maps in all frames of the clip.

    Instances do not see each other: without gradients they are computed in chunks of bounded memory.
    """

    chunk_pixels = 2**18  # of stride 4; one instance of a clip is never split

    def __init__(
        self, config: VisTRMaskHeadConfig, channels: int, num_heads: int, backbone_channels: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.config = config
        last = DeformConv2d if config.deformable else plain_convolution
        self.attention = AttentionMaps(channels, num_heads, 1)
        self.upsampling = MaskUpsampling(channels, num_heads, 1, backbone_channels[::-1], plain_convolution, last)
        self.volume = _volume_layers(self.upsampling.out_channels, config.volume_channels)

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
            levels: C3 and C4 of the backbone, in their own widths, and the ENCODED map of stride 32 (T, C, H_l, W_l).
            finest: (T, C2's width, h, w), C2 of the backbone.
            padding_masks: like keys, (H_l, W_l) bool, True where padded.
            keys: maps (T, C, H_l, W_l) of which the queries attend to the last. None: levels.

        Returns:
            (n, T, h, w) of stride 4.
        """
        (maps,) = self.attention(queries, levels if keys is None else keys, padding_masks)
        features = self.upsampling.adapt([*levels[::-1], finest])
        pixels = queries.shape[1] * finest[0, 0].numel()
        chunk = len(maps) if torch.is_grad_enabled() else self.chunk_pixels // pixels
        return torch.cat([self._masks(part, features) for part in maps.split(max(chunk, 1))])

    def _masks(self, maps: Tensor, features: list[Tensor]) -> Tensor:
        """maps: (n, T, M, H_l, W_l). Returns (n, T, h, w)."""
        num_instances, num_frames = maps.shape[:2]
        frame_index = torch.arange(num_frames, device=maps.device).repeat(num_instances)
        x = self.upsampling([maps.flatten(0, 1)], features, frame_index)
        return self.volume(x.unflatten(0, (num_instances, num_frames)).transpose(1, 2))[:, 0]


def _volume_layers(in_channels: int, channels: int) -> nn.Sequential:
    """Three 3x3x3 convolutions of dilation 2 over (frame, y, x), then one logit per pixel."""
    layers: list[nn.Module] = []
    for source in (in_channels, channels, channels):
        layers += [nn.Conv3d(source, channels, 3, padding=2, dilation=2)]
        layers += [nn.GroupNorm(math.gcd(4, channels), channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv3d(channels, 1, 1))
