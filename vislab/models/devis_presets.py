"""Configurations of DeVIS, its predecessors and VisTR at every scale."""

from __future__ import annotations

from dataclasses import replace

from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.vistr_mask_head import VisTRMaskHeadConfig
from vislab.models.backbones import SMALL_RESNET, TINY_RESNET
from vislab.models.devis import DevisConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.scale import Scale
from vislab.models.trajectory_decoder import TrajectoryDecoderConfig
from vislab.models.vistr import VisTRConfig


def devis(scale: Scale = "paper") -> DevisConfig:
    """DeVIS. "paper": ResNet-50 for YouTube-VIS 2019, 48.25 M parameters; the other scales like seqformer's."""
    if scale == "paper":
        return DevisConfig()
    clip = ClipMSDAConfig()
    if scale == "small":
        return DevisConfig(
            backbone=SMALL_RESNET, num_classes=40, dropout=0.0, reference_init="grid",
            encoder=EncoderConfig(num_layers=3, temporal=clip), decoder=TrajectoryDecoderConfig(num_layers=4),
        )  # fmt: skip
    clip = ClipMSDAConfig(initial_share=0.1)  # a minute of training does not win back what equal shares mix up
    return DevisConfig(
        backbone=TINY_RESNET, num_classes=8, num_queries=15, hidden_dim=128, num_heads=4, num_levels=3, dropout=0.0,
        encoder=EncoderConfig(num_layers=2, feed_forward_channels=256, temporal=clip),
        decoder=TrajectoryDecoderConfig(num_layers=3, feed_forward_channels=256, temporal=clip),
        mask_layers=(1,), reference_init="grid",
    )  # fmt: skip


def deformable_vistr(scale: Scale = "paper") -> DevisConfig:
    """DeVIS before its additions (DeVIS Table 1, clips of 6 frames): one level of stride 32, VisTR's mask head without
    deformable convolutions, no instance-aware reference points, boxes detached between layers."""
    base = devis(scale)
    decoder = replace(base.decoder, instance_aware=False, detach_reference=True)
    mask_head = VisTRMaskHeadConfig(deformable=False)
    return replace(base, num_levels=1, decoder=decoder, mask_head=mask_head, mask_layers=())


def deformable_detr(scale: Scale = "paper") -> DevisConfig:
    """Deformable DETR with iterative box refinement: image mode of DeVIS. It predicts boxes; with
    mask_head=MultiScaleMaskHeadConfig() also masks (DeVIS Tables 2 and 4). "paper": the release for COCO, 91 logits;
    below it, sizes and position encoding are those of devis, which can start from its weights."""
    base = devis(scale)
    base = replace(
        base, clip_length=1, temporal_position=None, mask_head=None, mask_layers=(), mask_padding=True,
        encoder=replace(base.encoder, temporal=None),
        decoder=replace(base.decoder, temporal=None, instance_aware=False, detach_reference=True),
    )  # fmt: skip
    return replace(base, num_classes=91, num_queries=300, position_offset=-0.5) if scale == "paper" else base


def vistr(scale: Scale = "paper") -> VisTRConfig:
    """VisTR, full attention over all pixels of a clip. "paper": ResNet-50 and clips of 36 frames, 57.1 M parameters;
    below it clips of 6, and widths as near to devis' as three axes of position allow."""
    if scale == "paper":
        return VisTRConfig()
    if scale == "small":
        return VisTRConfig(
            backbone=SMALL_RESNET, num_classes=40, clip_length=6, hidden_dim=288, num_encoder_layers=3,
            num_decoder_layers=4, feed_forward_channels=1024, dropout=0.0,
        )  # fmt: skip
    return VisTRConfig(
        backbone=TINY_RESNET, num_classes=8, clip_length=6, hidden_dim=144, num_heads=4, num_encoder_layers=2,
        num_decoder_layers=3, feed_forward_channels=256, dropout=0.0,
    )  # fmt: skip
