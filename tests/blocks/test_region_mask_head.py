"""Mask branch: the asked class's channel, norms, empty input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from slow_deformable import noise, randomise

from vislab.blocks.region_mask_head import RegionMaskHead, RegionMaskHeadConfig

CONFIG = RegionMaskHeadConfig(region_size=3, num_convolutions=2, dynamic_channels=4, norm="group")


def test_channel_of_the_label_of_all_classes_logits() -> None:
    head = randomise(RegionMaskHead(8, 5, CONFIG))
    queries, regions, labels = noise(4, 8), noise(4, 9, 8, seed=1), torch.tensor([3, 0, 3, 4])
    features = head.dynamic(queries, regions).transpose(1, 2).reshape(4, 8, 3, 3)
    every = head.class_logits(head.upsample(head.convolutions(features)).relu())
    assert every.shape == (4, 5, 6, 6)
    torch.testing.assert_close(head(queries, regions, labels), every[torch.arange(4), labels])


def test_group_norm_keeps_regions_apart_and_batch_norm_does_not() -> None:
    for norm, alone in (("group", True), ("batch", False)):
        head = randomise(RegionMaskHead(8, 2, replace(CONFIG, norm=norm))).train()
        queries, regions, labels = noise(3, 8), noise(3, 9, 8, seed=1), torch.tensor([0, 1, 1])
        same = torch.allclose(head(queries, regions, labels)[:1], head(queries[:1], regions[:1], labels[:1]))
        assert same is alone, norm


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_no_regions(norm: str) -> None:
    head = RegionMaskHead(8, 2, replace(CONFIG, norm=norm)).train()
    empty = head(torch.zeros(0, 8), torch.zeros(0, 9, 8), torch.zeros(0, dtype=torch.int64))
    assert empty.shape == (0, 6, 6)


def test_initial_logits_have_no_bias() -> None:
    assert not RegionMaskHead(8, 2, CONFIG).class_logits.bias.any()
