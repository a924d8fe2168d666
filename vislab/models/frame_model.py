"""What a frame-level model is to RefineVIS, and heads that several of them share.

Shape letters: F frames, Q queries, K classes, C channels, H W image size, h w mask size, n chosen embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vislab.losses.denoising import DenoisingQueries
from vislab.losses.frame_predictions import FramePredictions


class FrameModel(Protocol):
    """An image instance segmentation model with queries; any that gives FramePredictions can carry RefineVIS.

    channels: C. mask_stride: pixels between mask logits. takes_denoising: whether its decoder takes denoising queries.
    """

    channels: int
    mask_stride: int
    takes_denoising: bool

    def __call__(
        self, images: Tensor, padding_mask: Tensor, denoising: DenoisingQueries | None = None
    ) -> FramePredictions:
        """images: (F, 3, H, W); padding_mask: (F, H, W) bool, True where padded. Without `association`."""
        ...

    def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of a model that it can start from, under its own names; what it cannot use may stay."""
        ...


@dataclass(frozen=True)
class KernelHeads:
    """Class and mask heads that read normalised embeddings; masks are products with features (F, C, h, w)."""

    norm: Callable[[Tensor], Tensor]
    class_head: Callable[[Tensor], Tensor]
    mask_head: Callable[[Tensor], Tensor]
    features: Tensor

    def classify(self, embeddings: Tensor) -> Tensor:
        return self.class_head(self.norm(embeddings))

    def masks(self, frame: int, embeddings: Tensor, references: Tensor) -> Tensor:
        """references are not read."""
        features = self.features[frame]
        kernels = self.mask_head(self.norm(embeddings))
        return (kernels @ features.flatten(1)).unflatten(-1, features.shape[1:])
