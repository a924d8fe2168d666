"""ResNet with four levels: shapes, batch norm with fixed statistics, what is frozen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import noise
from torch import nn

from vislab.models.pyramid_resnet import FixedBatchNorm2d, PyramidResNetConfig

TINY = PyramidResNetConfig(depths=(1, 2, 1, 1), widths=(8, 16, 16, 32), stem_width=4)


@pytest.mark.parametrize("norm", ["fixed", "group"])
def test_four_maps_frame_by_frame(norm: str) -> None:
    model, clips = replace(TINY, norm=norm).build().double().eval(), noise(2, 3, 3, 64, 96)
    maps = model(clips)
    expected = [(6, c, 64 // s, 96 // s) for c, s in zip(model.channels, model.strides, strict=True)]
    assert [tuple(feature.shape) for feature in maps] == expected
    for together, alone in zip(maps, model(clips[1:, 2:]), strict=True):
        torch.testing.assert_close(together[5:], alone)


def test_fixed_batch_norm_never_looks_at_the_batch() -> None:
    fixed, library = FixedBatchNorm2d(5).double().train(), nn.BatchNorm2d(5).double().eval()
    for index, name in enumerate(("weight", "bias", "running_mean", "running_var")):
        getattr(fixed, name).data.copy_(noise(5, seed=index).abs())
    library.load_state_dict(fixed.state_dict())
    before = {name: buffer.clone() for name, buffer in fixed.named_buffers()}
    x = noise(2, 5, 3, 4, seed=9)
    out = fixed(x)
    torch.testing.assert_close(out, library(x))
    out.sum().backward()
    assert fixed.weight.grad is not None and fixed.bias.grad is not None
    assert all(torch.equal(buffer, before[name]) for name, buffer in fixed.named_buffers())


@pytest.mark.parametrize(("stages", "frozen"), [(0, ()), (1, ("body.embedder", "body.encoder.stages.0"))])
def test_frozen_stages(stages: int, frozen: tuple[str, ...]) -> None:
    model = replace(TINY, frozen_stages=stages).build()
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still == {name for name, _ in model.named_parameters() if frozen and name.startswith(frozen)}
    assert not any(type(part) is nn.BatchNorm2d for part in model.modules())


def test_parameters_of_resnet50() -> None:
    """All of ResNet-50 but its classifier; 225,344 of them frozen, batch norm included."""
    with torch.device("meta"):
        model = PyramidResNetConfig().build()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032 - 2_049_000
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == 225_344
