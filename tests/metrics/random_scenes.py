"""Random overlaps for the tests of tracking metrics, with plenty of ties, rivals, gaps and empty sides."""

from __future__ import annotations

import numpy as np

from vislab.metrics.frame_overlap import Scene


def random_scene(rng: np.random.Generator, video: int = 0, *, ties: bool = True) -> Scene:
    """Up to 12 frames, 5 labelled and 12 detected tracks; any of the three may be missing.

    ties: half of the scenes have overlaps on a coarse grid and tracks that occur twice.
    """
    shape = int(rng.integers(1, 13)), int(rng.integers(0, 6)), int(rng.integers(0, 13))
    ious = np.maximum(rng.random((1, *shape[1:])) * 1.3 + rng.normal(0, 0.2, shape) - 0.2, 0)
    ious = np.where(ious < 1, ious, 1 - 0.1 * rng.random(shape))
    if ties and rng.random() < 0.5:
        ious = np.round(ious * 8) / 8
        for axis in (1, 2):
            if shape[axis] > 1:
                copied, original = rng.integers(shape[axis], size=2)
                np.moveaxis(ious, axis, 0)[copied] = np.moveaxis(ious, axis, 0)[original]
    truth_present, found_present = (rng.random((shape[0], n)) < rng.choice([0.3, 0.8, 1]) for n in shape[1:])
    if rng.random() < 0.1:  # frames with nothing in them
        truth_present[: shape[0] // 2] = found_present[: shape[0] // 2] = False
    ious *= truth_present[:, :, None] & found_present[:, None, :]
    return Scene(video, ious, truth_present, found_present)


def random_scenes(seed: int, *, ties: bool = True) -> list[Scene]:
    """One scene for each of 1 to 3 videos."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, video, ties=ties) for video in range(rng.choice([1, 1, 1, 1, 1, 3]))]


def perfect_scene(scene: Scene) -> Scene:
    """The labelled tracks of a scene, detected without fault."""
    ious = scene.truth_present[:, :, None] * np.eye(scene.truth_present.shape[1])
    return Scene(scene.video, ious, scene.truth_present, scene.truth_present)
