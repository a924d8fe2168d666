"""Iterative box refinement (Zhu et al., Deformable DETR, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from vislab.blocks.feed_forward import MLP


def inverse_sigmoid(x: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Logit of x, x clamped to [0, 1] and both odds to at least epsilon (Deformable-DETR util/misc.py:513-517)."""
    x = x.clamp(0, 1)
    return (x.clamp(min=epsilon) / (1 - x).clamp(min=epsilon)).log()


def refine(update: Tensor, reference: Tensor) -> Tensor:
    """Adds an update to a reference in logit space.

    update: (..., 4) before the sigmoid. reference: (..., 2) points or (..., 4) boxes in [0, 1]; a point leaves the
    box size to the update. Returns (..., 4), cxcywh in [0, 1].
    """
    known = inverse_sigmoid(reference)
    return (update + functional.pad(known, (0, update.shape[-1] - known.shape[-1]))).sigmoid()


def box_heads(channels: int, num_layers: int) -> nn.ModuleList:
    """One box head per decoder layer: no update at first, and small boxes from the first layer
    (Deformable-DETR models/deformable_detr.py:86-112)."""
    heads = nn.ModuleList(MLP(channels, channels, 4, 3) for _ in range(num_layers))
    for index, head in enumerate(heads):
        weight, bias = list(head.parameters())[-2:]
        nn.init.zeros_(weight)
        nn.init.zeros_(bias)
        if index == 0:
            nn.init.constant_(bias[2:], -2.0)
    return heads
