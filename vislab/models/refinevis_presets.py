"""Configurations of RefineVIS, IDOL and MaskDINO at every scale."""

from __future__ import annotations

from dataclasses import replace

from vislab.blocks.temporal_attention_refinement import TARConfig
from vislab.losses.denoising import DenoisingConfig
from vislab.models.backbones import SMALL_RESNET, SWIN_LARGE, TINY_RESNET
from vislab.models.dynamic_mask_detr import DynamicMaskDETRConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.mask2former_frames import Mask2FormerFramesConfig
from vislab.models.mask2former_presets import mask2former_vis
from vislab.models.maskdino import MaskDINOConfig
from vislab.models.maskdino_decoder import MaskDINODecoderConfig
from vislab.models.refinevis import FrameModelConfig, RefineVISConfig
from vislab.models.scale import Scale
from vislab.models.seqformer import MaskHeadConfig


def maskdino(scale: Scale = "paper") -> MaskDINOConfig:
    """MaskDINO, an image model. "paper": the release for COCO with ResNet-50, 52.1 M parameters; below it, the sizes
    of the other models' scales. "tiny" and "smoke" start from the boxes that queries propose: those around masks are of
    no use until there are masks, and cost half of so short a training."""
    if scale == "paper":
        return MaskDINOConfig()
    if scale == "small":
        return MaskDINOConfig(
            backbone=SMALL_RESNET, num_classes=40, num_queries=50,
            encoder=EncoderConfig(num_layers=3, feed_forward_channels=1024),
            decoder=MaskDINODecoderConfig(num_layers=4, feed_forward_channels=1024),
        )  # fmt: skip
    return MaskDINOConfig(
        backbone=TINY_RESNET, num_classes=8, num_queries=20, hidden_dim=128, num_heads=4, num_levels=3,
        encoder=EncoderConfig(num_layers=2, feed_forward_channels=256),
        decoder=MaskDINODecoderConfig(num_layers=3, feed_forward_channels=256), initial_boxes=None,
    )  # fmt: skip


def dynamic_mask_detr(scale: Scale = "paper") -> DynamicMaskDETRConfig:
    """IDOL's image model. "paper": the release for YouTube-VIS 2019 with ResNet-50; below it, seqformer's sizes."""
    base = DynamicMaskDETRConfig()
    if scale == "paper":
        return base
    if scale == "small":
        return replace(
            base, backbone=SMALL_RESNET, num_queries=50, dropout=0.0, reference_init="grid",
            encoder=EncoderConfig(num_layers=3), decoder=replace(base.decoder, num_layers=4),
            mask_head=MaskHeadConfig(coordinate_scale=64.0),
        )  # fmt: skip
    return replace(
        base, backbone=TINY_RESNET, num_classes=8, num_queries=15, hidden_dim=128, num_heads=4, num_levels=3,
        dropout=0.0, reference_init="grid", encoder=EncoderConfig(num_layers=2, feed_forward_channels=256),
        decoder=replace(base.decoder, num_layers=3, feed_forward_channels=256),
        mask_head=MaskHeadConfig(coordinate_scale=32.0),
    )  # fmt: skip


def mask2former_frames(scale: Scale = "paper") -> Mask2FormerFramesConfig:
    """Mask2Former on single frames: mask2former-vis of the same scale with sigmoid classes."""
    return Mask2FormerFramesConfig(replace(mask2former_vis(scale), classification="sigmoid"))


def _around(frame_model: FrameModelConfig, scale: Scale, denoising: DenoisingConfig | None) -> RefineVISConfig:
    if scale in ("paper", "small"):
        return RefineVISConfig(frame_model=frame_model, denoising=denoising)
    tar = TARConfig(num_heads=4, feed_forward_channels=256)
    return RefineVISConfig(frame_model=frame_model, tar=tar, denoising=denoising, first_frames=40)


def refinevis(scale: Scale = "paper") -> RefineVISConfig:
    """RefineVIS on MaskDINO. "paper": ResNet-50 with 4 levels and 6 decoder layers (section 4.1) for YouTube-VIS 2019,
    100 denoising queries."""
    model = maskdino(scale)
    if scale == "paper":
        model = replace(model, num_classes=40, decoder=MaskDINODecoderConfig(num_layers=6))
    queries = {"paper": 100, "small": 40}.get(scale, 20)
    return _around(model, scale, DenoisingConfig(num_queries=queries))


def refinevis_swin_large() -> RefineVISConfig:
    """RefineVIS with Swin-L: 5 levels, 9 decoder layers, 500 denoising queries (section 4.1)."""
    model = MaskDINOConfig(backbone=SWIN_LARGE, num_classes=40, num_levels=5)
    return _around(model, "paper", DenoisingConfig(num_queries=500))


def refinevis_mask2former(scale: Scale = "paper") -> RefineVISConfig:
    """RefineVIS on Mask2Former (Table 7), without denoising queries. Its criterion gives boxes no weight."""
    return _around(mask2former_frames(scale), scale, None)


def refinevis_condinst(scale: Scale = "paper") -> RefineVISConfig:
    """RefineVIS on Deformable DETR with dynamic-convolution masks (Table 7), without denoising queries."""
    return _around(dynamic_mask_detr(scale), scale, None)


def idol(scale: Scale = "paper") -> RefineVISConfig:
    """IDOL: refinevis-condinst without TAR. "paper": ResNet-50 for YouTube-VIS 2019, 43.1 M parameters."""
    return replace(refinevis_condinst(scale), tar=None)
