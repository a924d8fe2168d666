"""t-SNE: neighbours stay neighbours, and equal input gives equal points."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from vislab.errors import UserError
from vislab.report.figures.embedding_plane import tsne_plane


def clusters(sizes: tuple[int, ...], channels: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    members = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.eye(channels)[: len(sizes)]
    lengths = rng.uniform(0.1, 10, len(members))[:, None]
    return lengths * (centres[members] + rng.normal(scale=0.02, size=(len(members), channels))), members


def test_clusters_by_angle_stay_apart_and_repeat_bit_by_bit() -> None:
    embeddings, members = clusters((8, 8, 8))
    points = tsne_plane(embeddings, 8)
    assert points.shape == (24, 2) and np.isfinite(points).all()
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(24)
    assert (members[distances.argmin(axis=1)] == members).all()
    assert (tsne_plane(embeddings, 8) == points).all()


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (1, 1, 1, 1)])
def test_few_points_are_enough(sizes: tuple[int, ...]) -> None:
    points = tsne_plane(clusters(sizes)[0], max(sizes))
    assert points.shape == (sum(sizes), 2) and np.isfinite(points).all()


def test_without_scikit_learn_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UserError, match=r"needs the package scikit-learn: pip install -e '\.\[figures\]'"):
        tsne_plane(clusters((4, 4))[0], 4)
