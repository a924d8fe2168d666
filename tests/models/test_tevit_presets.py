"""TeViT's presets: released parameter counts, and the scales."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vislab.models.counts import parameter_counts
from vislab.models.tevit import TeViTConfig
from vislab.models.tevit_presets import queryinst, tevit, tevit_r50


def counts(config: TeViTConfig) -> dict[str, int]:
    with torch.device("meta"):
        return parameter_counts(config.build())


def test_msgshift_counts_as_released() -> None:
    """161.83 M (README of hustvl/TeViT); its state dict holds 161,844,928 numbers."""
    found = counts(tevit())
    assert found["unique"] == found["trainable"] == 161_832_616
    assert found["released"] == 161_844_928


def test_r50_counts_as_released() -> None:
    """172.34 M trainable; stem and first stage are frozen, batch norms with them."""
    found = counts(tevit_r50())
    assert found["unique"] == 172_565_448 and found["trainable"] == 172_340_104
    assert found["released"] == 172_630_933


def test_temporal_parts_have_no_parameters_but_the_tokens() -> None:
    full = counts(tevit())["unique"]
    assert counts(replace(tevit(), query_interaction="spatial"))["unique"] == full
    assert counts(replace(tevit(), backbone=replace(tevit().backbone, aggregation=None)))["unique"] == full
    assert counts(queryinst())["unique"] == full - 32 * 3


@pytest.mark.parametrize("preset", [tevit, tevit_r50, queryinst])
@pytest.mark.parametrize(("scale", "millions"), [("small", (15, 30)), ("tiny", (2, 3)), ("smoke", (2, 3))])
def test_scales(preset, scale: str, millions: tuple[int, int]) -> None:
    assert millions[0] < counts(preset(scale))["unique"] / 1e6 < millions[1]
