"""Image backbones from transformers, without weights; frozen batch norm where the released models have it.

Shape letters: B batch, T frames (flattened into N = B * T images), C channels, H W image size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class ResNetConfig:
    """ResNet with stages C3, C4, C5. norm: "frozen" batch norm (statistics are buffers) or "group" for training
    from scratch. frozen_stages: how many of (stem, stage 1) get no gradient together: 0 or 1."""

    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    widths: tuple[int, int, int, int] = (256, 512, 1024, 2048)
    stem_width: int = 64
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    norm: Literal["frozen", "group"] = "frozen"
    frozen_stages: Literal[0, 1] = 1

    def build(self, stride4: bool = False) -> Backbone:
        """stride4: C2 is returned as well."""
        from transformers import ResNetBackbone
        from transformers import ResNetConfig as Library

        library = Library(  # type: ignore[call-arg]  # out_features is read by a mixin
            depths=list(self.depths), hidden_sizes=list(self.widths), embedding_size=self.stem_width,
            layer_type=self.layer_type, out_features=_stages(stride4),
        )  # fmt: skip
        body = ResNetBackbone(library)
        replace_batch_norm(body, self.norm)
        if self.frozen_stages:
            for part in (body.embedder, body.encoder.stages[0]):
                part.requires_grad_(False)
        return Backbone(body, self.widths if stride4 else self.widths[1:])


@dataclass(frozen=True)
class SwinConfig:
    """Swin transformer with stages C3, C4, C5; the default is Swin-L with window 12."""

    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    num_heads: tuple[int, int, int, int] = (6, 12, 24, 48)
    embed_dim: int = 192
    window_size: int = 12

    def build(self, stride4: bool = False) -> Backbone:
        """stride4: C2 is returned as well, through a norm of its own."""
        from transformers import SwinBackbone
        from transformers import SwinConfig as Library

        library = Library(  # type: ignore[call-arg]  # out_features is read by a mixin
            image_size=384, embed_dim=self.embed_dim, depths=list(self.depths), num_heads=list(self.num_heads),
            window_size=self.window_size, out_features=_stages(stride4),
        )  # fmt: skip
        body = SwinBackbone(library)
        if hasattr(body, "swin"):
            # the feature maps have norms of their own and do not pass this one
            body.swin.layernorm = nn.Identity()  # type: ignore[assignment]
        return Backbone(body, tuple(self.embed_dim * 2**stage for stage in range(0 if stride4 else 1, 4)))


def _stages(stride4: bool) -> list[str]:
    return ["stage1", "stage2", "stage3", "stage4"][0 if stride4 else 1 :]


BackboneConfig = ResNetConfig | SwinConfig

RESNET50 = ResNetConfig()
RESNET101 = ResNetConfig(depths=(3, 4, 23, 3))
SWIN_LARGE = SwinConfig()
SMALL_RESNET = ResNetConfig(
    depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), layer_type="basic", norm="group", frozen_stages=0
)
TINY_RESNET = ResNetConfig(
    depths=(1, 1, 1, 1), widths=(32, 64, 128, 160), stem_width=32, layer_type="basic", norm="group", frozen_stages=0
)


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are buffers (Carion et al., DETR; torchvision's eps 1e-5)."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns the same shape."""
        scale = self.weight * (self.running_var + self.epsilon).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


def replace_batch_norm(module: nn.Module, norm: Literal["frozen", "group"]) -> None:
    """Replaces every nn.BatchNorm2d below module, in place."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            channels = child.num_features
            groups = math.gcd(8, channels)
            frozen = norm == "frozen"
            setattr(module, name, FrozenBatchNorm2d(channels) if frozen else nn.GroupNorm(groups, channels))
        else:
            replace_batch_norm(child, norm)


class Backbone(nn.Module):
    """Feature maps of stride 8, 16 and 32, before them that of stride 4 if asked for. channels: their widths."""

    def __init__(self, body: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        self.channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: (N, 3, H, W), H and W multiples of 32. Returns three or four (N, C_l, H / stride, W / stride)."""
        return list(self.body(images).feature_maps)
