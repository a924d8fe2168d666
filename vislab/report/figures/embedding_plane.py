"""Embeddings brought to a plane by t-SNE (van der Maaten and Hinton, 2008), for pictures alone: distances and sizes of
its clusters mean little, so that numbers are to be had from the embeddings themselves (`metrics.embeddings`).
"""

from __future__ import annotations

import numpy as np

from vislab.errors import UserError

__all__ = ["tsne_plane"]

_PERPLEXITY = 30.0  # the authors recommend 5 to 50


def tsne_plane(embeddings: np.ndarray, neighbours: int) -> np.ndarray:
    """Points (N, 2) of embeddings (N, C), N >= 3, by the angles between these; equal input gives equal points.

    neighbours: how many others each has that belong to it, at most; the perplexity is no larger.
    Raises UserError if scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise UserError("t-SNE needs the package scikit-learn: pip install -e '.[figures]'") from None
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    perplexity = max(1.0, min(_PERPLEXITY, neighbours, (len(unit) - 1) / 3))
    with threadpool_limits(1):  # sums in another order end in another picture
        return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(unit.astype(np.float64))
