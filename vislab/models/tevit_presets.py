"""Configurations of TeViT and QueryInst at every scale."""

from __future__ import annotations

from dataclasses import replace

from vislab.blocks.region_mask_head import RegionMaskHeadConfig
from vislab.models.msgshift import MsgShiftConfig
from vislab.models.pyramid_resnet import PyramidResNetConfig
from vislab.models.scale import Scale
from vislab.models.tevit import TeViTConfig

# one token for each direction and stride: a small frame has 15 keys to attend to beside them, the paper's has 240
TINY_MSGSHIFT = MsgShiftConfig(
    widths=(16, 32, 48, 64), num_heads=(1, 2, 3, 4), feed_forward_ratios=(4, 4, 4, 4), drop_path=0.0, num_tokens=4
)
SMALL_MSGSHIFT = MsgShiftConfig(widths=(32, 64, 160, 256))  # PVT v2-B0
TINY_PYRAMID_RESNET = PyramidResNetConfig(
    depths=(1, 1, 1, 1), widths=(32, 64, 128, 160), stem_width=32, layer_type="basic", norm="group", frozen_stages=0
)
SMALL_PYRAMID_RESNET = PyramidResNetConfig(
    depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), layer_type="basic", norm="group", frozen_stages=0
)


def tevit(scale: Scale = "paper") -> TeViTConfig:
    """TeViT with MsgShifT. "paper": PVT v2-B1, 161.8 M parameters; "small": PVT v2-B0 and four narrower heads, minutes
    on a GPU; "tiny" and "smoke": 2.3 M, minutes on a laptop."""
    if scale == "paper":
        return TeViTConfig()
    if scale == "small":
        return TeViTConfig(
            backbone=SMALL_MSGSHIFT, num_queries=50, hidden_dim=128, num_stages=4, feed_forward_channels=512,
            dynamic_channels=32, finest_scale=28.0, proposal_init="grid",
            mask_head=RegionMaskHeadConfig(dynamic_channels=32, norm="group"),
        )  # fmt: skip
    return TeViTConfig(
        backbone=TINY_MSGSHIFT, num_classes=8, num_queries=15, hidden_dim=64, num_heads=4, num_stages=3,
        feed_forward_channels=128, dynamic_channels=16, finest_scale=14.0, proposal_init="grid",
        mask_head=RegionMaskHeadConfig(num_convolutions=2, dynamic_channels=16, norm="group"),
    )  # fmt: skip


def tevit_r50(scale: Scale = "paper") -> TeViTConfig:
    """TeViT on a ResNet, which has no messenger tokens: spatiotemporal query interaction alone (Table 11)."""
    paper, small, tiny = PyramidResNetConfig(), SMALL_PYRAMID_RESNET, TINY_PYRAMID_RESNET
    return replace(tevit(scale), backbone={"paper": paper, "small": small}.get(scale, tiny))


def queryinst(scale: Scale = "paper") -> TeViTConfig:
    """QueryInst on PVT v2, the image-level baseline: no messenger tokens, and queries that meet within a frame only.

    On a clip it treats every frame alone, instances linked by their query; TeViT starts from its weights.
    """
    base = tevit(scale)
    assert isinstance(base.backbone, MsgShiftConfig)
    return replace(base, backbone=replace(base.backbone, num_tokens=0, aggregation=None), query_interaction="spatial")
