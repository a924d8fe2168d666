"""TeViT of a few thousand parameters, filled with noise, in float64."""

from __future__ import annotations

from dataclasses import replace

from tiny_models import randomise

from vislab.blocks.region_mask_head import RegionMaskHeadConfig
from vislab.models.msgshift import MsgShiftConfig
from vislab.models.pyramid_resnet import PyramidResNetConfig
from vislab.models.tevit import TeViT, TeViTConfig

TEVIT = TeViTConfig(
    backbone=MsgShiftConfig(
        widths=(8, 8, 16, 16), num_heads=(1, 2, 2, 4), feed_forward_ratios=(2, 2, 2, 2), num_tokens=8, drop_path=0.0
    ),
    num_classes=3, num_queries=5, hidden_dim=16, num_heads=2, num_stages=3, feed_forward_channels=24, region_size=3,
    dynamic_channels=4, finest_scale=14.0,
    mask_head=RegionMaskHeadConfig(region_size=4, num_convolutions=1, dynamic_channels=4, norm="group"),
    proposal_init="grid",
)  # fmt: skip
QUERYINST = replace(
    TEVIT, backbone=replace(TEVIT.backbone, num_tokens=0, aggregation=None), query_interaction="spatial"
)
TEVIT_RESNET = replace(
    TEVIT,
    backbone=PyramidResNetConfig(depths=(1, 2, 1, 1), widths=(8, 8, 16, 16), stem_width=4),
    mask_head=replace(TEVIT.mask_head, norm="batch"),
)


def build(config: TeViTConfig, seed: int = 0) -> TeViT:
    model = config.build()
    boxes = model.proposal_boxes.detach().clone()
    randomise(model, seed, scale=0.2)
    model.proposal_boxes.data.copy_(boxes)
    return model.eval()
