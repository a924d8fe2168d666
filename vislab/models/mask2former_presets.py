"""Configurations of Mask2Former-VIS and IFR at every scale, and the Swin backbones of their tables."""

from __future__ import annotations

from dataclasses import replace

from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig
from vislab.blocks.volumetric_queries import VolumetricQueriesConfig
from vislab.models.backbones import SMALL_RESNET, SWIN_LARGE, TINY_RESNET, ResNetConfig, SwinConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.mask2former_vis import Mask2FormerVISConfig
from vislab.models.masked_decoder import MaskedDecoderConfig
from vislab.models.scale import Scale

# facebookresearch/Mask2Former configs/youtubevis_2019: nothing is frozen, and these Swins
MASK2FORMER_RESNET50 = ResNetConfig(frozen_stages=0)
MASK2FORMER_RESNET101 = ResNetConfig(depths=(3, 4, 23, 3), frozen_stages=0)
SWIN_TINY = SwinConfig(depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), embed_dim=96, window_size=7)
SWIN_SMALL = SwinConfig(depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), embed_dim=96, window_size=7)
SWIN_BASE = SwinConfig(depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), embed_dim=128, window_size=12)
IFR_BACKBONES = {
    "ResNet-50": MASK2FORMER_RESNET50,
    "ResNet-101": MASK2FORMER_RESNET101,
    "Swin-T": SWIN_TINY,
    "Swin-S": SWIN_SMALL,
    "Swin-B": SWIN_BASE,
    "Swin-L": SWIN_LARGE,
}


def mask2former_vis(scale: Scale = "paper") -> Mask2FormerVISConfig:
    """Mask2Former-VIS, IFR's baseline. "paper": ResNet-50, 100 queries, 44.0 M parameters; "small": minutes on a GPU;
    "tiny" and "smoke": minutes on a laptop."""
    if scale == "paper":
        return Mask2FormerVISConfig()
    if scale == "small":
        return Mask2FormerVISConfig(
            backbone=SMALL_RESNET, num_queries=50, encoder=EncoderConfig(num_layers=3),
            decoder=MaskedDecoderConfig(num_layers=6, layer=VolumetricQueriesConfig(feed_forward_channels=1024)),
        )  # fmt: skip
    return Mask2FormerVISConfig(
        backbone=TINY_RESNET, num_classes=8, num_queries=20, hidden_dim=128, num_heads=4,
        encoder=EncoderConfig(num_layers=2, feed_forward_channels=256),
        decoder=MaskedDecoderConfig(num_layers=3, layer=VolumetricQueriesConfig(feed_forward_channels=256)),
    )  # fmt: skip


def ifr(scale: Scale = "paper") -> Mask2FormerVISConfig:
    """IFR: its baseline with the recurrent decoder layer and sigmoid classes; 100 queries (its section 4.2). Focal and
    cross-frame losses belong to the criterion."""
    base = mask2former_vis(scale)
    assert isinstance(base.decoder.layer, VolumetricQueriesConfig)
    layer = InterFrameRecurrentConfig(feed_forward_channels=base.decoder.layer.feed_forward_channels)
    if scale == "tiny":  # too few steps to find from a random start which frames are a query's own
        layer = replace(layer, start="own_frames")
    return replace(base, classification="sigmoid", decoder=replace(base.decoder, layer=layer))
