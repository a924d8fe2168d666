"""Predictions whose masks are kernel products, and pixel centres as points: losses can then be written out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from loss_cases import noise
from torch import Tensor

from vislab.structures import ModelOutput


@dataclass
class Kernels:
    """A mask predictor with frame-level queries. kernels: (B, T, Q, C); features: (B, T, C, h, w); both are leaves."""

    kernels: Tensor
    features: Tensor
    has_frame_queries = True

    def __call__(self, batch_index: int, query_index: Tensor) -> Tensor:
        return self.from_frames(batch_index, query_index, torch.arange(self.kernels.shape[1]))

    def from_frames(self, batch_index: int, query_index: Tensor, source_frames: Tensor) -> Tensor:
        kernels = self.kernels[batch_index, source_frames][:, query_index]
        return torch.einsum("tqc,tchw->qthw", kernels, self.features[batch_index])


def random_kernels(batch: int, queries: int, frames: int, size: tuple[int, int] = (4, 6), seed: int = 0) -> Kernels:
    kernels = noise(batch, frames, queries, 3, seed=seed).requires_grad_()
    return Kernels(kernels, noise(batch, frames, 3, *size, seed=seed + 1).requires_grad_())


def kernel_output(
    batch: int, queries: int, frames: int, classes: int, layers: int = 1, size: tuple[int, int] = (4, 6), seed: int = 0
) -> ModelOutput:
    outputs = [
        ModelOutput(
            pred_logits=noise(batch, queries, classes, seed=seed + 10 * layer).requires_grad_(),
            pred_boxes=torch.full((batch, queries, frames, 4), torch.nan),
            pred_masks=random_kernels(batch, queries, frames, size, seed + 10 * layer + 1),
        )
        for layer in range(layers)
    ]
    outputs[-1].aux_outputs = outputs[:-1]
    return outputs[-1]


def pixel_centres(height: int, width: int) -> Tensor:
    """(h * w, 2) float64, (x, y) in [0, 1]."""
    rows, columns = (torch.arange(count, dtype=torch.float64) for count in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack(((x.flatten() + 0.5) / width, (y.flatten() + 0.5) / height), dim=-1)


def every_pixel(logits: Tensor, config: object, generator: torch.Generator) -> Tensor:
    """Takes the place of `uncertain_points`: the pixel centres of (n, h, w) logits."""
    return pixel_centres(*logits.shape[1:]).expand(len(logits), -1, -1)


def slow_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean over pixels."""
    probability = logits.sigmoid()
    return -torch.where(mask, probability.log(), (1 - probability).log()).mean()


def slow_dice(logits: Tensor, mask: Tensor) -> Tensor:
    probability = logits.sigmoid()
    return 1 - (2 * probability[mask].sum() + 1) / (probability.sum() + mask.sum() + 1)
