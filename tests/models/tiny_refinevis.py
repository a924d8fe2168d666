"""RefineVIS of a few thousand parameters on each of its frame-level models, filled with noise, in float64."""

from __future__ import annotations

from dataclasses import replace

import torch
from mask_models import MASK2FORMER
from tiny_models import BACKBONE, CHANNELS, HEADS, noise, randomise

from vislab.blocks.temporal_attention_refinement import TARConfig
from vislab.losses.denoising import DenoisingConfig
from vislab.models.dynamic_mask_detr import DynamicMaskDETRConfig
from vislab.models.encoder import EncoderConfig
from vislab.models.mask2former_frames import Mask2FormerFramesConfig
from vislab.models.maskdino import MaskDINOConfig
from vislab.models.maskdino_decoder import MaskDINODecoderConfig
from vislab.models.refinevis import RefineVIS, RefineVISConfig
from vislab.structures import Targets

CLASSES = 3
MASKDINO = MaskDINOConfig(
    backbone=BACKBONE, num_classes=CLASSES, num_queries=5, hidden_dim=CHANNELS, num_heads=HEADS,
    encoder=EncoderConfig(num_layers=1, feed_forward_channels=24),
    decoder=MaskDINODecoderConfig(num_layers=2, feed_forward_channels=24),
)  # fmt: skip
DYNAMIC = DynamicMaskDETRConfig(
    backbone=BACKBONE, num_classes=CLASSES, num_queries=5, hidden_dim=CHANNELS, num_heads=HEADS, num_levels=3,
    dropout=0.0, encoder=EncoderConfig(num_layers=1, feed_forward_channels=24),
    decoder=replace(DynamicMaskDETRConfig().decoder, num_layers=2, feed_forward_channels=24),
)  # fmt: skip
FRAMES = Mask2FormerFramesConfig(replace(MASK2FORMER, classification="sigmoid"))
TAR = TARConfig(num_heads=2, feed_forward_channels=24)
REFINEVIS = RefineVISConfig(frame_model=MASKDINO, tar=TAR, denoising=DenoisingConfig(num_queries=12))
ON_DYNAMIC = RefineVISConfig(frame_model=DYNAMIC, tar=TAR, denoising=None)
ON_MASK2FORMER = RefineVISConfig(frame_model=FRAMES, tar=TAR, denoising=None)
EVERY = {"maskdino": REFINEVIS, "dynamic": ON_DYNAMIC, "mask2former": ON_MASK2FORMER}


def build(config: RefineVISConfig, seed: int = 0) -> RefineVIS:
    return randomise(config.build(), seed).eval()


def tiny_clips(batch: int = 1, frames: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """images (B, T, 3, 64, 96) and padding (B, 64, 96); the last clip is padded."""
    padding = torch.zeros(batch, 64, 96, dtype=torch.bool)
    padding[-1, 48:], padding[-1, :, 64:] = True, True
    images = noise(batch, frames, 3, 64, 96, seed=7).masked_fill(padding[:, None, None], 0.0)
    return images, padding


def tiny_targets(instances: int, frames: int, seed: int = 0, absent: tuple[tuple[int, int], ...] = ()) -> Targets:
    """Rectangles that move. absent: pairs of instance and frame."""
    generator = torch.Generator().manual_seed(seed)
    centre = 0.3 + 0.4 * torch.rand(instances, 1, 2, generator=generator) + 0.02 * torch.arange(frames)[:, None]
    boxes = torch.cat((centre, torch.full((instances, frames, 2), 0.3)), dim=-1)
    present = torch.ones(instances, frames, dtype=torch.bool)
    for instance, frame in absent:
        present[instance, frame] = False
    y, x = (torch.arange(64) + 0.5) / 64, (torch.arange(96) + 0.5) / 96
    inside_y = (y - boxes[..., 1:2]).abs() < boxes[..., 3:] / 2
    inside_x = (x - boxes[..., :1]).abs() < boxes[..., 2:3] / 2
    masks = inside_y[..., None] & inside_x[..., None, :] & present[..., None, None]
    labels = torch.randint(CLASSES, (instances,), generator=generator)
    return Targets(labels, boxes * present[..., None], masks, present, torch.arange(instances))
