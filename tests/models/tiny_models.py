"""Models of a few thousand parameters, filled with noise, in float64."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vislab.blocks.clip_msda import ClipMSDAConfig
from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.blocks.temporal_self_attention import TemporalSelfAttentionConfig
from vislab.models.backbones import ResNetConfig
from vislab.models.devis import Devis, DevisConfig
from vislab.models.encoder import EncoderConfig, Memory
from vislab.models.query_decoder import DecoderConfig
from vislab.models.seqformer import SeqFormer, SeqFormerConfig
from vislab.models.trajectory_decoder import TrajectoryDecoderConfig

CHANNELS, HEADS = 16, 2
BACKBONE = ResNetConfig(
    depths=(1, 1, 1, 1), widths=(8, 8, 16, 16), stem_width=8, layer_type="basic", norm="group", frozen_stages=0
)
SEQFORMER = SeqFormerConfig(
    backbone=BACKBONE, num_classes=3, num_queries=5, hidden_dim=CHANNELS, num_heads=HEADS, num_levels=3, dropout=0.0,
    encoder=EncoderConfig(num_layers=2, feed_forward_channels=24),
    decoder=DecoderConfig(num_layers=3, feed_forward_channels=24),
)  # fmt: skip
TAFORMER = replace(
    SEQFORMER,
    encoder=replace(SEQFORMER.encoder, temporal=TemporalMSDAConfig(num_points=2, window=1)),
    decoder=replace(SEQFORMER.decoder, temporal_attention=TemporalSelfAttentionConfig()),
    temporal_position="index",
)
DEVIS = DevisConfig(
    backbone=BACKBONE, num_classes=3, num_queries=4, clip_length=3, hidden_dim=CHANNELS, num_heads=HEADS, num_levels=3,
    dropout=0.0, encoder=EncoderConfig(num_layers=2, feed_forward_channels=24, temporal=ClipMSDAConfig(2)),
    decoder=TrajectoryDecoderConfig(num_layers=3, feed_forward_channels=24), mask_layers=(1,),
)  # fmt: skip
IMAGE_MODE = replace(
    DEVIS, clip_length=1, encoder=replace(DEVIS.encoder, temporal=None), decoder=replace(DEVIS.decoder, temporal=None)
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomise(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> torch.nn.Module:
    """Every parameter becomes noise, so that no zero initialisation hides an error."""
    module.double()
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=1000 * seed + index) * scale)
    return module


def build(config: SeqFormerConfig, seed: int = 0) -> SeqFormer:
    return randomise(config.build(), seed).eval()


def build_devis(config: DevisConfig = DEVIS, seed: int = 0) -> Devis:
    return randomise(config.build(), seed).eval()


def clips(frames: int = 3, height: int = 64, width: int = 96, sizes: tuple = ((64, 96), (45, 70))) -> tuple:
    """images (B, T, 3, H, W), zero where padded, and padding_mask (B, H, W) for clips of the given sizes."""
    images = noise(len(sizes), frames, 3, height, width, seed=7)
    padding = torch.ones(len(sizes), height, width, dtype=torch.bool)
    for clip, (rows, columns) in enumerate(sizes):
        padding[clip, :rows, :columns] = False
    return images.masked_fill(padding[:, None, None], 0.0), padding


def token_memory(shapes: list[tuple[int, int]], frames: int, batch: int = 2) -> Memory:
    """Random encoder output with some padding in the last clip."""
    count = sum(height * width for height, width in shapes)
    padding = torch.zeros(batch, count, dtype=torch.bool)
    padding[-1] = torch.rand(count, generator=torch.Generator().manual_seed(3)) < 0.3
    ratios = torch.ones(batch, len(shapes), 2, dtype=torch.float64)
    ratios[-1] = 0.5 + noise(len(shapes), 2, seed=4).sigmoid() / 2
    return Memory(noise(batch, frames, count, CHANNELS, seed=5), padding, ratios, torch.tensor(shapes))
