"""Parameter counts against the papers and the released state dicts."""

from __future__ import annotations

import pytest
import torch
from tiny_models import SEQFORMER
from torch import nn

from vislab.losses.contrastive import ContrastiveConfig, ContrastiveLoss
from vislab.models.backbones import RESNET101
from vislab.models.counts import parameter_counts
from vislab.models.presets import build_model


def contrastive_head() -> nn.Module:
    with torch.device("meta"):
        return ContrastiveLoss(ContrastiveConfig())


def test_seqformer_r50_counts_as_released() -> None:
    """48,404,173 distinct parameters in the release, of which 394,752 are read by no forward pass."""
    counts = parameter_counts(build_model("seqformer", device="meta"))
    assert counts["released"] == 49_306_085
    assert counts["unique"] == 48_404_173 - 394_752
    assert counts["trainable"] == counts["unique"] - 222_400
    assert counts["buffers"] == 106_240


def test_seqformer_r101_counts_as_released() -> None:
    counts = parameter_counts(build_model("seqformer", device="meta", backbone=RESNET101))
    assert counts["released"] == 68_350_437
    assert counts["unique"] == 67_344_077 - 394_752


@pytest.mark.parametrize(("k_inter", "millions"), [(1, 50.444), (2, 51.036), (3, 51.628), (4, 52.221)])
def test_taformer_r50_counts_of_table_7(k_inter: int, millions: float) -> None:
    model = build_model("taformer", device="meta", changes={"encoder.temporal.num_points": k_inter})
    assert parameter_counts(model, contrastive_head())["released"] / 1e6 == pytest.approx(millions, abs=1e-3)


def test_taformer_r101_counts_as_printed() -> None:
    model = build_model("taformer", device="meta", backbone=RESNET101)
    assert parameter_counts(model, contrastive_head())["released"] / 1e6 == pytest.approx(71.3, abs=0.05)


def test_shared_and_frozen_parameters() -> None:
    first, second = nn.Linear(3, 4), nn.BatchNorm1d(4)
    second.weight.requires_grad_(False)
    counts = parameter_counts(first, nn.Sequential(first, second))
    assert counts == {"unique": 16 + 8, "trainable": 16 + 4, "buffers": 9, "released": 24 + 9}


def test_released_extras_count_box_heads_twice() -> None:
    model = SEQFORMER.build()
    counts = parameter_counts(model)
    unused = 2 * (16 * 16 + 16)
    boxes = 3 * (2 * (16 * 16 + 16) + 16 * 4 + 4)
    assert counts["released"] == counts["unique"] + counts["buffers"] + boxes + unused


@pytest.mark.parametrize(
    ("changes", "unique"),
    [({}, 48_250_172), ({"num_queries": 30}, 48_311_612), ({"num_queries": 30, "num_classes": 25}, 48_288_482)],
    ids=["YouTube-VIS 2019", "YouTube-VIS 2021", "OVIS"],
)
def test_devis_counts_as_released(changes: dict, unique: int) -> None:
    counts = parameter_counts(build_model("devis", device="meta", changes=changes))
    assert counts["unique"] == unique
    assert counts["trainable"] == unique - 222_400
    if not changes:
        assert counts["released"] == 49_152_084


def test_deformable_detr_counts_as_released() -> None:
    counts = parameter_counts(build_model("deformable-detr", device="meta"))
    assert (counts["unique"], counts["trainable"], counts["released"]) == (40_849_660, 40_627_260, 41_751_572)


K_TEMP_0 = {"encoder.temporal": None, "decoder.temporal": None}
FOUR_LEVELS = {"num_levels": 4}


@pytest.mark.parametrize(
    ("changes", "millions", "printed"),
    [
        ({"clip_length": 36}, 46.52, 47),
        ({"clip_length": 36} | K_TEMP_0, 36.15, 36),
        ({}, 37.47, None),
        (K_TEMP_0, 35.99, 36),
        (FOUR_LEVELS, 47.92, 48),
        (FOUR_LEVELS | {"decoder.instance_aware": True}, 47.92, 48),
    ],
    ids=["T36 K4", "T36 K0", "T6 K4", "T6 K0", "4 levels", "instance-aware"],
)
def test_rows_of_devis_table_1(changes: dict, millions: float, printed: int | None) -> None:
    """The paper's rows from Deformable VisTR on; it prints 41 M for T6 K4, which no configuration of it has."""
    unique = parameter_counts(build_model("deformable-vistr", device="meta", changes=changes))["unique"]
    assert unique / 1e6 == pytest.approx(millions, abs=0.005)
    if printed is not None:
        assert round(unique / 1e6) == printed
