"""How well embeddings tell instances apart, by the cosine between them; for one video, whose instances they are of.

Shape letters: N embeddings, C channels, I instances.
"""

from __future__ import annotations

import numpy as np

__all__ = ["nearest_is_same", "silhouette"]


def silhouette(embeddings: np.ndarray, instances: np.ndarray) -> float:
    """Mean silhouette (Rousseeuw 1987) with cosine distance, in [-1, 1]: 1 where instances are far apart for their
    size, 0 where they touch. NaN for fewer than two instances.

    An embedding that is the only one of its instance counts 0. embeddings: (N, C); instances: (N,) identities.
    """
    names, index = np.unique(instances, return_inverse=True)
    if len(names) < 2:
        return float("nan")
    members = np.eye(len(names))[index]
    sums, sizes = (1 - _cosines(embeddings)) @ members, members.sum(axis=0)
    own = members.astype(bool)
    inner = sums[own] / np.maximum(sizes[index] - 1, 1)
    outer = np.where(own, np.inf, sums / sizes).min(axis=1)
    widest = np.maximum(inner, outer)
    widths = np.divide(outer - inner, widest, out=np.zeros_like(widest), where=(widest > 0) & (sizes[index] > 1))
    return float(widths.mean())


def nearest_is_same(embeddings: np.ndarray, instances: np.ndarray, frames: np.ndarray) -> float:
    """Share of embeddings whose nearest one of another frame is of the same instance. NaN if all are of one frame.

    embeddings: (N, C); instances, frames: (N,).
    """
    elsewhere = frames[:, None] != frames
    asked = elsewhere.any(axis=1)
    nearest = np.where(elsewhere, _cosines(embeddings), -np.inf).argmax(axis=1)
    same = instances[nearest] == instances
    return float(same[asked].mean()) if asked.any() else float("nan")


def _cosines(embeddings: np.ndarray) -> np.ndarray:
    """(N, N)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit @ unit.T
