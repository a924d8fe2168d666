"""Masks as products of query kernels and pixel features (Cheng et al., Mask2Former), computed for chosen queries only.

Shape letters: B batch, T frames, Q queries, C channels, n chosen queries, h w mask size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KernelMasks:
    """A mask predictor. kernels: (B, T, Q, C), T = 1 where one kernel serves all frames.

    features: B clips of (T, C, h, w), apart: the gradient of an index into one tensor is as large as the batch, for
    every clip of every decoder layer.
    """

    kernels: Tensor
    features: tuple[Tensor, ...]

    @property
    def has_frame_queries(self) -> bool:
        """Whether every frame has kernels of its own. True for a clip of one frame, where both are the same."""
        return self.kernels.shape[1] == len(self.features[0])

    def __call__(self, batch_index: int, query_index: Tensor) -> Tensor:
        """query_index: (n,) int64. Returns logits (n, T, h, w)."""
        return self._logits(self.kernels[batch_index][:, query_index], batch_index)

    def from_frames(self, batch_index: int, query_index: Tensor, source_frames: Tensor) -> Tensor:
        """Masks that the queries of other frames predict (IFR section 3.2): frame t with the kernels of
        source_frames[t]. source_frames: (T,) int64. Returns logits (n, T, h, w)."""
        kernels = self.kernels[batch_index]
        kernels = kernels.expand(len(self.features[batch_index]), -1, -1)[source_frames]
        return self._logits(kernels[:, query_index], batch_index)

    def _logits(self, kernels: Tensor, batch_index: int) -> Tensor:
        features = self.features[batch_index]
        return torch.matmul(kernels, features.flatten(2)).unflatten(-1, features.shape[-2:]).transpose(0, 1)
