"""Frame-level predictions at random, with heads that can be written out: float64, every tensor a leaf."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from loss_cases import noise, random_boxes, random_targets
from torch import Tensor

from vislab.losses.denoising import DenoisingConfig, make_denoising_queries
from vislab.losses.frame_predictions import ClipPredictions, FramePredictions
from vislab.structures import Targets

CLASSES, CHANNELS, SIZE = 3, 4, (4, 6)
PRESENT = [[1, 1], [1, 0], [0, 1]]


@dataclass
class PlainHeads:
    """Classes: the first numbers of an embedding. Masks: products with features (F, C, h, w)."""

    features: Tensor

    def classify(self, embeddings: Tensor) -> Tensor:
        return embeddings[..., :CLASSES]

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        return torch.einsum("nc,chw->nhw", embeddings, self.features[frame])


def random_frames(frames: int, queries: int, heads: PlainHeads, seed: int = 0) -> FramePredictions:
    embeddings = noise(frames, queries, CHANNELS, seed=seed).requires_grad_()
    boxes = random_boxes(frames, queries, seed=seed + 1).requires_grad_()
    association = noise(frames, queries, 5, seed=seed + 2).requires_grad_()
    return FramePredictions(heads.classify(embeddings), boxes, embeddings, boxes[..., :2], heads, association)


def clip_targets() -> list[Targets]:
    return [random_targets(3, 2, CLASSES, 1, PRESENT), random_targets(1, 2, CLASSES, 2)]


def clip_predictions(targets: list[Targets], queries: int = 7, denoising: int = 0, layers: int = 1) -> ClipPredictions:
    """Two clips of two frames; refinement doubles embeddings and mixes the frames."""
    heads = PlainHeads(noise(4, CHANNELS, *SIZE, seed=9))
    frames = random_frames(4, queries, heads)
    frames.aux_outputs = [random_frames(4, queries, heads, seed=40 + layer) for layer in range(layers - 1)]
    if denoising:
        torch.manual_seed(0)
        noised = make_denoising_queries(targets, CLASSES, DenoisingConfig(num_queries=denoising))
        if noised is not None:
            frames.denoising, frames.denoising_queries = random_frames(4, len(noised), heads, seed=20), noised
    numbers = torch.tensor([[3, 4], [0, 2]])
    return ClipPredictions(frames, 2, numbers, lambda x, t: 2 * x + x.mean(1, keepdim=True) * t[:, None].to(x))
