"""Mask2Former-VIS and IFR of a few thousand parameters, filled with noise, in float64."""

from __future__ import annotations

from dataclasses import replace

from tiny_models import BACKBONE, CHANNELS, HEADS, randomise

from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig
from vislab.blocks.volumetric_queries import VolumetricQueriesConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.mask2former_vis import Mask2FormerVIS, Mask2FormerVISConfig
from vislab.models.masked_decoder import MaskedDecoderConfig

MASK2FORMER = Mask2FormerVISConfig(
    backbone=BACKBONE, num_classes=3, num_queries=5, hidden_dim=CHANNELS, num_heads=HEADS,
    encoder=EncoderConfig(num_layers=2, feed_forward_channels=24),
    decoder=MaskedDecoderConfig(num_layers=3, layer=VolumetricQueriesConfig(feed_forward_channels=24)),
)  # fmt: skip
IFR = replace(
    MASK2FORMER,
    classification="sigmoid",
    decoder=replace(MASK2FORMER.decoder, layer=InterFrameRecurrentConfig(feed_forward_channels=24)),
)


def build(config: Mask2FormerVISConfig, seed: int = 0) -> Mask2FormerVIS:
    return randomise(config.build(), seed).eval()
