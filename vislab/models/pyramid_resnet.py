"""ResNet that gives all four levels of a feature pyramid.

Shape letters: B batch, T frames, C channels, H W image size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class PyramidResNetConfig:
    """ResNet with stages C2 to C5; the default is ResNet-50 as TeViT trains it.

    norm: "fixed" batch norm, whose statistics stay while its scale and shift train (norm_eval in TeViT
    configs/tevit/tevit_r50.py), or "group" for training from scratch. frozen_stages: how many of (stem, stage 1) get no
    gradient together: 0 or 1.
    """

    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    widths: tuple[int, int, int, int] = (256, 512, 1024, 2048)
    stem_width: int = 64
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    norm: Literal["fixed", "group"] = "fixed"
    frozen_stages: Literal[0, 1] = 1

    def build(self) -> PyramidResNet:
        from transformers import ResNetBackbone
        from transformers import ResNetConfig as Library

        library = Library(  # type: ignore[call-arg]  # out_features is read by a mixin
            depths=list(self.depths), hidden_sizes=list(self.widths), embedding_size=self.stem_width,
            layer_type=self.layer_type, out_features=["stage1", "stage2", "stage3", "stage4"],
        )  # fmt: skip
        body = ResNetBackbone(library)
        _replace_norms(body, self.norm)
        if self.frozen_stages:
            for part in (body.embedder, body.encoder.stages[0]):
                part.requires_grad_(False)
        return PyramidResNet(body, self.widths)


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that always uses its stored statistics; its scale and shift are parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W). Returns the same shape."""
        statistics = self.running_mean, self.running_var
        return functional.batch_norm(x, *statistics, self.weight, self.bias, training=False, eps=self.eps)


def _replace_norms(module: nn.Module, norm: Literal["fixed", "group"]) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            width = child.num_features
            fixed = norm == "fixed"
            setattr(module, name, FixedBatchNorm2d(width) if fixed else nn.GroupNorm(math.gcd(8, width), width))
        else:
            _replace_norms(child, norm)


class PyramidResNet(nn.Module):
    """Maps of stride 4, 8, 16 and 32, every frame on its own. channels: their widths."""

    strides = (4, 8, 16, 32)

    def __init__(self, body: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.body, self.channels = body, channels

    def forward(self, clips: Tensor) -> list[Tensor]:
        """clips: (B, T, 3, H, W), H and W multiples of 32. Returns four maps (B * T, C_l, H / stride, W / stride)."""
        return list(self.body(clips.flatten(0, 1)).feature_maps)
