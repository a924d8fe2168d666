"""Dynamic-convolution mask head (Tian et al., CondInst; as SeqFormer uses it on whole clips).

Shape letters: B batch, T frames, n chosen instances, C channels, h w mask feature size.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN_CHANNELS = 8


class MaskFeatures(nn.Module):
    """Top-down branch over the encoded levels of stride 32, 16, 8 to mask features of stride 8.

    3x3 convolution, nearest upsampling, addition; ReLU after every convolution, the last one too
    (SeqFormer models/segmentation.py:360-400).
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.top_down = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.reduce = nn.Conv2d(channels, channels // 4, 3, padding=1)
        self.project = nn.Conv2d(channels // 4, out_channels, 3, padding=1)
        for convolution in (*self.top_down, self.reduce, self.project):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            nn.init.zeros_(convolution.bias)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """levels: three (N, C, h, w), finest first. Returns (N, out_channels, h, w) of the finest."""
        fused = torch.zeros_like(levels[-1])
        for level, convolution in zip(reversed(levels), self.top_down, strict=True):
            if level is not levels[-1]:
                fused = functional.interpolate(fused, size=level.shape[-2:], mode="nearest")
            fused = convolution(level + fused).relu()
        return self.project(self.reduce(fused).relu()).relu()


def num_dynamic_parameters(feature_channels: int) -> int:
    """Parameters of three 1x1 layers (feature_channels + 2) -> 8 -> 8 -> 1 with biases; 169 for 8 channels."""
    hidden = HIDDEN_CHANNELS
    return (feature_channels + 2) * hidden + hidden * hidden + hidden + hidden + hidden + 1


def dynamic_masks(
    features: Tensor, parameters: Tensor, reference: Tensor, stride: int, coordinate_scale: float = 1.0
) -> Tensor:
    """Mask logits of instances, each with its own three-layer 1x1 network (CondInst section 3.2).

    Args:
        features: (T, C, h, w) mask features of one clip, of the given stride.
        parameters: (n, num_dynamic_parameters(C)): all weights first, then all biases; input [x, y, features].
        reference: (n, T, 2) reference point (x, y) in input pixels; the network sees (reference - location).
        coordinate_scale: the relative coordinates are divided by it (1: released SeqFormer, in pixels).

    Returns:
        (n, T, 2 h, 2 w), bilinearly upsampled to half of the stride.
    """
    channels, hidden = features.shape[1], HIDDEN_CHANNELS
    features, parameters = features.to(reference.dtype), parameters.to(reference.dtype)
    sizes = [(channels + 2) * hidden, hidden * hidden, hidden, hidden, hidden, 1]
    w1, w2, w3, b1, b2, b3 = parameters.split(sizes, dim=-1)
    w1 = w1.unflatten(-1, (hidden, channels + 2))
    relative = _relative_coordinates(reference, features.shape[-2:], stride) / coordinate_scale
    with _full_precision(features.device.type):  # bfloat16 would round coordinates of some hundred pixels by 2
        # the features are the same for all instances: no (n, T, C, h, w) copy is made
        x = torch.einsum("noc,tchw->ntohw", w1[..., 2:], features)
        x = x + torch.einsum("noc,ntchw->ntohw", w1[..., :2], relative) + b1[:, None, :, None, None]
        x = torch.einsum("noc,ntchw->ntohw", w2.unflatten(-1, (hidden, hidden)), x.relu()) + b2[:, None, :, None, None]
        x = torch.einsum("nc,ntchw->nthw", w3, x.relu()) + b3[:, :, None, None]
        return upsample_aligned(x, 2)


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Switches autocast off; the meta device has none."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _relative_coordinates(reference: Tensor, size: torch.Size, stride: int) -> Tensor:
    """(n, T, 2, h, w): reference point minus the centre stride * i + stride // 2 of each mask feature, in pixels."""
    height, width = size
    y = torch.arange(height, device=reference.device, dtype=reference.dtype) * stride + stride // 2
    x = torch.arange(width, device=reference.device, dtype=reference.dtype) * stride + stride // 2
    locations = torch.stack((x.expand(height, width), y[:, None].expand(height, width)))
    return reference[..., None, None] - locations


def upsample_aligned(logits: Tensor, factor: int) -> Tensor:
    """Bilinear upsampling in which output pixel factor * i + factor // 2 is input pixel i (edges repeated).

    With half-pixel centres, as the losses and inference read the result, an even factor thus moves masks by half an
    output pixel; the weights of the release have learned to undo it.
    logits: (n, T, h, w). Returns (n, T, factor * h, factor * w). Source: SeqFormer models/segmentation.py:614-635.
    """
    height, width = logits.shape[-2:]
    padded = functional.pad(logits, (0, 1, 0, 1), mode="replicate")
    size = (factor * height + 1, factor * width + 1)
    upsampled = functional.interpolate(padded, size=size, mode="bilinear", align_corners=True)
    shift = factor // 2
    upsampled = functional.pad(upsampled, (shift, 0, shift, 0), mode="replicate")
    return upsampled[..., : factor * height, : factor * width]
