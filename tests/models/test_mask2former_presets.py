"""Counts of Mask2Former-VIS and IFR at paper scale, and what the presets promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig
from vislab.models.backbones import BackboneConfig
from vislab.models.mask2former_presets import IFR_BACKBONES, ifr, mask2former_vis
from vislab.models.mask2former_vis import Mask2FormerVIS, Mask2FormerVISConfig, parameter_parts


def on_meta(config: Mask2FormerVISConfig) -> Mask2FormerVIS:
    with torch.device("meta"):
        return config.build()


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_mask2former_vis_r50() -> None:
    """The released model's count (its state dict less buffers); nothing is frozen but batch norms."""
    model = on_meta(mask2former_vis())
    assert count(model) == 43_959_977
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert count(model) + sum(buffer.numel() for buffer in model.buffers()) == 44_066_258 - 41  # without class weights


# millions that Mask2Former's Table 1 prints for COCO: 80 classes, and 200 queries with Swin-L
PRINTED = {"ResNet-50": 44, "ResNet-101": 63, "Swin-T": 47, "Swin-S": 69, "Swin-B": 107, "Swin-L": 216}


@pytest.mark.parametrize(("name", "millions"), PRINTED.items())
def test_backbones_have_the_printed_sizes(name: str, millions: int) -> None:
    queries = 200 if name == "Swin-L" else 100
    config = replace(mask2former_vis(), backbone=IFR_BACKBONES[name], num_classes=80, num_queries=queries)
    assert round(count(on_meta(config)) / 1e6) == millions


@pytest.mark.parametrize("backbone", IFR_BACKBONES.values(), ids=list(IFR_BACKBONES))
def test_ifr_adds_two_attentions_per_layer(backbone: BackboneConfig) -> None:
    """Each with four 256 x 256 projections and a norm; one class logit less."""
    base, recurrent = (on_meta(replace(preset(), backbone=backbone)) for preset in (mask2former_vis, ifr))
    attention = 4 * (256 * 256 + 256) + 2 * 256
    parts = parameter_parts(recurrent)
    assert parts["temporal_attention"] == parts["clip_attention"] == 9 * attention
    assert count(recurrent) == count(base) + 2 * 9 * attention - 257


@pytest.mark.parametrize("queries", [100, 200])
def test_numbers_of_queries(queries: int) -> None:
    assert count(on_meta(replace(ifr(), num_queries=queries))) == 48_705_960 + (queries - 100) * 2 * 256


@pytest.mark.parametrize("preset", [mask2former_vis, ifr])
@pytest.mark.parametrize("scale", ["smoke", "tiny", "small"])
def test_smaller_scales(preset: object, scale: str) -> None:
    config = preset(scale)
    model = on_meta(config)
    assert count(model) < (3e6 if scale != "small" else 4e7)
    assert isinstance(config.decoder.layer, InterFrameRecurrentConfig) == (preset is ifr)


def test_tiny_runs() -> None:
    config = ifr("tiny")
    output = config.build().eval()(torch.zeros(1, 2, 3, 96, 160), torch.zeros(1, 96, 160, dtype=torch.bool))
    masks: Tensor = output.pred_masks(0, torch.tensor([3]))
    assert masks.shape == (1, 2, 24, 40) and output.pred_logits.shape == (1, 20, 8)
