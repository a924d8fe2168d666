"""Embeddings by the cosine between them: closed forms, and another library."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from vislab.metrics.embeddings import nearest_is_same, silhouette


@pytest.mark.parametrize("seed", range(4))
def test_silhouette_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings, instances = rng.normal(size=(40, 7)), rng.integers(5, 5 + 2 + seed, 40)
    instances[0] = 99  # one of a kind
    expected = silhouette_score(embeddings, instances, metric="cosine")
    assert silhouette(embeddings, instances) == pytest.approx(expected, abs=1e-12)


def test_silhouette_of_directions() -> None:
    """Two at right angles to two others: 1 where the members agree; length is no matter."""
    apart = np.array([[1.0, 0], [3, 0], [0, 2], [0, 0.1]])
    assert silhouette(apart, np.array([4, 4, 9, 9])) == pytest.approx(1)
    assert silhouette(apart, np.array([4, 9, 4, 9])) == pytest.approx(-0.5)  # inner 1, outer 1/2
    assert silhouette(np.ones((4, 3)), np.array([1, 1, 2, 2])) == 0
    assert np.isnan(silhouette(apart, np.array([4, 4, 4, 4])))


def test_nearest_embedding_of_another_frame() -> None:
    angles = np.radians([0, 10, 90, 12])  # the object 7 in frames 0 and 1, the object 8, which comes near it
    embeddings = 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    objects, frames = np.array([7, 7, 8, 8]), np.array([0, 1, 0, 1])
    assert nearest_is_same(embeddings, objects, frames) == 0.75  # 12 degrees, of the object 8, is nearest to 0
    angles[3] = np.radians(80)
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert nearest_is_same(embeddings, objects, frames) == 1
    assert np.isnan(nearest_is_same(embeddings, objects, np.zeros(4, int)))
