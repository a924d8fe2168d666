"""Iterative box refinement (Zhu et al., Deformable DETR, section 4.2)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


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
