"""Backbones: strides, widths, frozen batch norm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import BACKBONE, noise
from torch import nn

from vislab.models.backbones import (
    RESNET50,
    STRIDES,
    FrozenBatchNorm2d,
    ResNetConfig,
    SwinConfig,
    replace_batch_norm,
)

BOTTLENECK = ResNetConfig(depths=(1, 2, 1, 1), widths=(8, 16, 16, 32), stem_width=4)
SWIN = SwinConfig(depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), embed_dim=8, window_size=4)


@pytest.mark.parametrize("config", [BACKBONE, BOTTLENECK, SWIN])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 160)])
def test_three_maps_of_the_stated_strides_and_widths(
    config: ResNetConfig | SwinConfig, height: int, width: int
) -> None:
    backbone = config.build().eval()
    maps = backbone(torch.randn(2, 3, height, width))
    expected = [(2, c, height // s, width // s) for c, s in zip(backbone.channels, STRIDES, strict=True)]
    assert [tuple(feature.shape) for feature in maps] == expected


@pytest.mark.parametrize("config", [BACKBONE, BOTTLENECK, SWIN])
def test_the_map_of_stride_4_comes_first_if_asked_for(config: ResNetConfig | SwinConfig) -> None:
    backbone, without = config.build(stride4=True).eval(), config.build().eval()
    images = torch.randn(2, 3, 32, 64)
    finest, *rest = backbone(images)
    assert finest.shape == (2, backbone.channels[0], 8, 16) and backbone.channels[1:] == without.channels
    without.load_state_dict(backbone.state_dict(), strict=False)
    torch.testing.assert_close(rest, without(images))


@pytest.mark.parametrize("config", [BACKBONE, BOTTLENECK, SWIN])
def test_images_do_not_meet(config: ResNetConfig | SwinConfig) -> None:
    backbone, images = config.build().eval(), torch.randn(2, 3, 64, 64)
    for both, alone in zip(backbone(images), backbone(images[1:]), strict=True):
        torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


def test_frozen_batch_norm_is_batch_norm_in_evaluation() -> None:
    library, frozen = nn.BatchNorm2d(5).double().eval(), FrozenBatchNorm2d(5).double()
    with torch.no_grad():
        for index, (name, buffer) in enumerate(frozen.named_buffers()):
            buffer.copy_(noise(5, seed=index).abs())
            getattr(library, name).copy_(buffer)
    x = noise(2, 5, 3, 4, seed=9)
    torch.testing.assert_close(frozen(x), library(x))
    torch.testing.assert_close(frozen.train()(x), library(x))
    assert list(frozen.parameters()) == []


@pytest.mark.parametrize(("norm", "kind"), [("frozen", FrozenBatchNorm2d), ("group", nn.GroupNorm)])
def test_every_batch_norm_is_replaced(norm: str, kind: type) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Sequential(nn.BatchNorm2d(16)))
    replace_batch_norm(module, norm)
    assert isinstance(module[1], kind) and isinstance(module[2][0], kind)
    body = replace(BOTTLENECK, norm=norm).build()
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in body.modules())
    assert any(isinstance(part, kind) for part in body.modules())


@pytest.mark.parametrize(("stages", "frozen"), [(0, []), (1, ["embedder", "encoder.stages.0"])])
def test_frozen_stages(stages: int, frozen: list[str]) -> None:
    body = replace(BOTTLENECK, frozen_stages=stages).build().body
    still = {name for name, p in body.named_parameters() if not p.requires_grad}
    assert still == {name for name, _ in body.named_parameters() if name.startswith(tuple(frozen))}


def test_parameters_of_resnet50() -> None:
    """ResNet-50 without its classifier: 25,557,032 - 2,049,000 parameters, 53,120 of them in batch norms."""
    with torch.device("meta"):
        backbone = RESNET50.build()
    assert sum(p.numel() for p in backbone.parameters()) == 25_557_032 - 2_049_000 - 53_120
    assert sum(b.numel() for b in backbone.buffers()) == 106_240


def test_swin_has_no_parameter_that_no_map_reads() -> None:
    backbone = SWIN.build()
    sum(feature.square().sum() for feature in backbone(torch.randn(1, 3, 64, 64))).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []
