"""Named model configurations at every scale, and build_model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, get_args

import torch
from torch import nn

from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.blocks.temporal_self_attention import TemporalSelfAttentionConfig
from vislab.config import with_changes
from vislab.errors import UserError
from vislab.models.backbones import SMALL_RESNET, TINY_RESNET
from vislab.models.devis import DevisConfig
from vislab.models.devis_presets import deformable_detr, deformable_vistr, devis, vistr
from vislab.models.encoder import EncoderConfig
from vislab.models.mask2former_presets import ifr, mask2former_vis
from vislab.models.mask2former_vis import Mask2FormerVISConfig
from vislab.models.maskdino import MaskDINOConfig
from vislab.models.query_decoder import DecoderConfig
from vislab.models.refinevis import RefineVISConfig
from vislab.models.refinevis_presets import idol, maskdino, refinevis, refinevis_condinst, refinevis_mask2former
from vislab.models.scale import Scale
from vislab.models.seqformer import MaskHeadConfig, SeqFormerConfig
from vislab.models.tevit import TeViTConfig
from vislab.models.tevit_presets import queryinst, tevit, tevit_r50
from vislab.models.vistr import VisTRConfig


def seqformer(scale: Scale = "paper") -> SeqFormerConfig:
    """SeqFormer, TAFormer's baseline. "paper": ResNet-50, 49.3 M parameters as the paper counts; "small": 25 M,
    minutes on a GPU; "tiny" and "smoke": 2.7 M, minutes on a laptop."""
    if scale == "paper":
        return SeqFormerConfig()
    if scale == "small":
        return SeqFormerConfig(
            backbone=SMALL_RESNET, num_classes=40, num_queries=50, dropout=0.0, reference_init="grid",
            encoder=EncoderConfig(num_layers=3), decoder=DecoderConfig(num_layers=4),
            mask_head=MaskHeadConfig(coordinate_scale=64.0),
        )  # fmt: skip
    return SeqFormerConfig(
        backbone=TINY_RESNET, num_classes=8, num_queries=15, hidden_dim=128, num_heads=4, num_levels=3, dropout=0.0,
        encoder=EncoderConfig(num_layers=2, feed_forward_channels=256),
        decoder=DecoderConfig(num_layers=3, feed_forward_channels=256),
        mask_head=MaskHeadConfig(coordinate_scale=32.0), reference_init="grid",
    )  # fmt: skip


def taformer(scale: Scale = "paper") -> SeqFormerConfig:
    """TAFormer with the reading of its blocks that fits Table 7's counts (T-MSDA shares W and W', one TSA for all
    layers). Its contrastive loss belongs to the criterion."""
    base = seqformer(scale)
    return replace(
        base,
        encoder=replace(base.encoder, temporal=TemporalMSDAConfig()),
        decoder=replace(base.decoder, temporal_attention=TemporalSelfAttentionConfig()),
        temporal_position="index",
    )


# Models of videos, which can be trained and evaluated as they are
ModelConfig = SeqFormerConfig | DevisConfig | VisTRConfig | TeViTConfig | Mask2FormerVISConfig | RefineVISConfig

PRESETS: dict[str, Callable[[Scale], ModelConfig | MaskDINOConfig]] = {
    "seqformer": seqformer,
    "taformer": taformer,
    "deformable-detr": deformable_detr,
    "deformable-vistr": deformable_vistr,
    "devis": devis,
    "vistr": vistr,
    "mask2former-vis": mask2former_vis,
    "ifr": ifr,
    "tevit": tevit,
    "tevit-r50": tevit_r50,
    "queryinst": queryinst,
    "refinevis": refinevis,
    "refinevis-mask2former": refinevis_mask2former,
    "refinevis-condinst": refinevis_condinst,
    "idol": idol,
    "maskdino": maskdino,
}


def with_num_classes(model: ModelConfig, num_classes: int) -> ModelConfig:
    """The model for a data set of so many classes; RefineVIS has them in its frame-level model."""
    if isinstance(model, RefineVISConfig):
        return model.with_num_classes(num_classes)
    return replace(model, num_classes=num_classes)


def build_model(
    name: str,
    scale: Scale = "paper",
    device: str = "cpu",
    changes: Mapping[str, Any] | None = None,
    **common: Any,
) -> nn.Module:
    """Builds a model by name.

    Args:
        name: "seqformer", "taformer", "deformable-detr", "deformable-vistr", "devis", "vistr", "mask2former-vis",
            "ifr", "tevit", "tevit-r50", "queryinst", "refinevis", "refinevis-mask2former", "refinevis-condinst",
            "idol", or "maskdino", the image model of "refinevis", which takes frames and not clips.
        scale: "paper", "small", "tiny" or "smoke".
        device: "cpu", "cuda" or "meta" (no memory; for counting).
        changes: dotted configuration paths and their values, e.g. {"encoder.temporal.num_points": 2}.
        common: top-level fields of the configuration, e.g. num_queries=100.

    Raises:
        UserError: unknown name, scale, or path; the message lists those that exist.
    """
    if name not in PRESETS:
        raise UserError(f"unknown model {name!r}: expected one of {', '.join(PRESETS)}")
    if scale not in get_args(Scale):
        raise UserError(f"unknown scale {scale!r}: expected one of {', '.join(get_args(Scale))}")
    config = PRESETS[name](scale)
    unknown = set(common) - {field.name for field in fields(config)}
    if unknown:
        exist = ", ".join(field.name for field in fields(config))
        raise UserError(f"unknown field {sorted(unknown)[0]!r} of {name}: expected one of {exist}")
    config = with_changes(config, {**common, **(changes or {})})
    with torch.device(device):
        return config.build()
