"""From mask logits at the model's mask stride to run-length codes at image size.

Shape letters: T frames, n masks, H W image size, h w size of mask logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vislab.engine.config import EvalConfig
from vislab.rle import RLE, encode_many
from vislab.structures import Batch

PIXELS_AT_ONCE = 2**24  # of upsampled mask logits held in memory: 64 MiB


@dataclass(frozen=True)
class MaskSampling:
    """Where mask logits lie in the model's input.

    stride: pixels between logits. input_size: (height, width) of the input without padding. alignment: logit i lies at
    pixel stride*i + stride//2 ("target", where training reads its targets), or at the centre of its cell
    ("interpolate", what torch's interpolate takes for granted).
    """

    stride: int
    input_size: tuple[int, int]
    alignment: Literal["target", "interpolate"] = "target"

    @classmethod
    def of(cls, model: nn.Module, batch: Batch, config: EvalConfig) -> MaskSampling:
        """Of the model's output for a batch of one clip."""
        stride = model.mask_stride
        assert isinstance(stride, int) and len(batch.image_sizes) == 1
        return cls(stride, (int(batch.image_sizes[0, 0]), int(batch.image_sizes[0, 1])), config.mask_alignment)

    @property
    def first(self) -> float:
        """Pixel at which logit 0 lies."""
        return self.stride // 2 if self.alignment == "target" else (self.stride - 1) / 2

    def weights(self, axis: int, num_logits: int, length: int, device: torch.device) -> Tensor:
        """Linear interpolation along an axis as a matrix: (length, num_logits) float32, rows of output pixels.

        Logits that lie in the padding are not used: beyond the last one inside, its value holds.
        """
        inside = self.input_size[axis]
        last = min(max(math.floor((inside - 1 - self.first) / self.stride), 0), num_logits - 1)
        pixel = (torch.arange(length, dtype=torch.float64, device=device) + 0.5) * (inside / length) - 0.5
        position = ((pixel - self.first) / self.stride).clamp(0, last)
        distance = (position[:, None] - torch.arange(num_logits, device=device)).abs()
        return (1 - distance).clamp(min=0).float()


def resize_masks(logits: Tensor, sampling: MaskSampling, size: tuple[int, ...]) -> Tensor:
    """Bilinear interpolation of (n, h, w) logits at the pixel centres of an image of `size`: (n, H, W) float32."""
    rows = sampling.weights(0, logits.shape[1], size[0], logits.device)
    columns = sampling.weights(1, logits.shape[2], size[1], logits.device)
    return rows @ logits.float() @ columns.T


def encode_masks(
    logits: Tensor, sampling: MaskSampling, size: tuple[int, ...], threshold: float
) -> list[list[RLE | None]]:
    """Run-length codes at image size of (n, T, h, w) logits whose sigmoid is above `threshold`; None for empty masks.

    Upsamples a few masks at a time: memory does not grow with the length of the video or the number of instances.
    """
    parts = logits.flatten(0, 1).split(masks_at_once(size))
    codes = encode_upsampled((resize_masks(part, sampling, size) for part in parts), threshold)
    length = logits.shape[1]
    return [codes[start : start + length] for start in range(0, len(codes), length)]


def masks_at_once(size: tuple[int, ...]) -> int:
    """How many masks of an image of this size are held upsampled."""
    return max(1, PIXELS_AT_ONCE // (size[0] * size[1]))


def encode_upsampled(parts: Iterable[Tensor], threshold: float) -> list[RLE | None]:
    """The codes of all masks of some stacks of logits at image size, (n, H, W) each."""
    least_logit = math.log(threshold / (1 - threshold)) if threshold > 0 else -math.inf
    codes: list[RLE | None] = []
    for part in parts:
        masks = (part > least_logit).cpu().numpy()
        codes += [code if mask.any() else None for code, mask in zip(encode_many(masks), masks, strict=True)]
    return codes
