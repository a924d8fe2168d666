"""A scene: every parameter of one video, and nothing rendered yet.

Each aspect draws from a stream of its own, so that turning one dial leaves the rest of the scene as it was: the same
videos with and without the difficulty can be compared pair by pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vislab.data.synthetic.config import PRESETS, Dials, SyntheticConfig, split_labels
from vislab.data.synthetic.crossing import cross_paths
from vislab.data.synthetic.damage import blackout, border_patches
from vislab.data.synthetic.motion import Motion, Poses, make_motion
from vislab.data.synthetic.palette import Paint, Tints, background_tints, object_paint
from vislab.data.synthetic.randomness import Stream, quantised
from vislab.data.synthetic.raster import owners, silhouette

_COARSE_ROWS = 32  # height of the raster on which visibility is estimated


@dataclass(frozen=True)
class Scene:
    """One video of N objects, ordered from far to near: a later one hides an earlier one.

    key: names its random streams. labels, shapes, textures: (N,) int64. poses: at the frames' times, T of them.
    opacities: (N, T) float64, 0 in noise frames. patches: (N, T, P, 3) float64, where damaged objects are not drawn;
    see `damage.border_patches`. noise: (T,) bool. tints: colours of the background.
    """

    key: tuple[object, ...]
    length: int
    labels: np.ndarray
    shapes: np.ndarray
    textures: np.ndarray
    paints: tuple[Paint, ...]
    motion: Motion
    poses: Poses
    opacities: np.ndarray
    patches: np.ndarray
    noise: np.ndarray
    tints: Tints


def scene_key(config: SyntheticConfig, split: str, index: int) -> tuple[object, ...]:
    """What names the random streams of one video. Dials and sizes are no part of it."""
    return ("vislab", config.preset, config.seed, split, index)


def video_length(config: SyntheticConfig, split: str, index: int) -> int:
    """Number of frames of one video."""
    shortest, longest = config.length
    if shortest == longest:
        return shortest
    return shortest + Stream(*scene_key(config, split, index), "length").integer(longest - shortest + 1)


def make_scene(config: SyntheticConfig, split: str, index: int) -> Scene:
    """Draws the scene of one video from the counter-based streams of (preset, seed, split, index)."""
    key = scene_key(config, split, index)
    length = video_length(config, split, index)
    radius = _radii(config, Stream(*key, "objects"))
    motion = make_motion(config, Stream(*key, "motion"), radius, length)
    look = Stream(*key, "look")
    tints = background_tints(look)
    paints = [object_paint(look, tints) for _ in radius]
    labels = look.integers(config.num_categories, len(radius))
    looks = _make_lookalikes(Stream(*key, "lookalike"), config.dials.lookalike, labels, paints)
    motion = cross_paths(config, Stream(*key, "crossing"), motion, labels, paints, looks)
    poses = motion.poses(np.arange(length, dtype=np.float64))
    noise = _chosen(Stream(*key, "noise"), np.zeros(length), config.dials.noise_frames)
    shapes, textures = split_labels(labels, config.num_categories)
    visible = _worth_keeping(config, poses, shapes, noise)
    return Scene(
        key=key,
        length=length,
        labels=labels,
        shapes=shapes,
        textures=textures,
        paints=tuple(paints),
        motion=motion,
        poses=poses,
        opacities=_opacities(config.dials, key, visible, noise),
        patches=_patches(config.dials, Stream(*key, "damage"), visible, shapes),
        noise=noise,
        tints=tints,
    )


def _radii(config: SyntheticConfig, stream: Stream) -> np.ndarray:
    """(N,) pixels, from far to near. Small objects tend to be near, so that occlusion stays partial."""
    preset = PRESETS[config.preset]
    count = 1 + stream.weighted(preset.object_weights)
    count = config.dials.objects or count
    low, high = preset.diameter
    radius = quantised(stream.numbers(low, high, count) * (config.height / 2), 64)
    depth = radius * quantised(stream.numbers(0.6, 1.4, count), 64)
    return radius[np.argsort(-depth, kind="stable")]


def _make_lookalikes(stream: Stream, probability: float, labels: np.ndarray, paints: list[Paint]) -> np.ndarray:
    """Gives later objects, with this probability each, category and colours of an earlier one, in place.

    Returns (N,) int64, for each object the first one with its looks.
    """
    looks = np.arange(len(labels))
    for later in range(1, len(labels)):
        earlier = stream.integer(later)
        if stream.number() < probability:
            labels[later], paints[later], looks[later] = labels[earlier], paints[earlier], looks[earlier]
    return looks


def _worth_keeping(config: SyntheticConfig, poses: Poses, shapes: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(N, T): how much of each object is seen, -1 in noise frames; zeros where no dial asks for it."""
    dials = config.dials
    if dials.faint == 1 and not dials.damage and not dials.blackout:
        return np.zeros_like(poses.x)
    return np.where(noise, -1.0, _visible_fractions(poses, shapes, config.width, config.height))


def _opacities(dials: Dials, key: tuple[object, ...], visible: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(N, T): the dial's opacity in the faint frames of every object, 0 in noise frames and blackouts, else 1."""
    opacities = np.ones_like(visible)
    if dials.faint < 1:
        stream = Stream(*key, "faint")
        for row, worth_keeping in zip(opacities, visible, strict=True):
            row[_chosen(stream, worth_keeping, dials.faint_fraction)] = dials.faint
    if dials.blackout:
        stream = Stream(*key, "blackout")
        for row, seen in zip(opacities, visible, strict=True):
            row[blackout(stream, seen, dials.blackout)] = 0
    opacities[:, noise] = 0
    return opacities


def _patches(dials: Dials, stream: Stream, visible: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """(N, T, P, 3), without any patch, P = 0, where the dial is off."""
    if not dials.damage:
        return np.zeros((*visible.shape, 0, 3))
    damaged = np.array([_chosen(stream, worth_keeping, dials.damage) for worth_keeping in visible])
    return border_patches(stream, shapes, damaged)


def _chosen(stream: Stream, worth_keeping: np.ndarray, fraction: float) -> np.ndarray:
    """(T,) bool: this share of the frames, at random, but not one, drawn among those most worth keeping, (T,)."""
    length = len(worth_keeping)
    best = np.flatnonzero(worth_keeping == worth_keeping.max())
    kept = best[stream.integer(len(best))]
    others = np.delete(np.arange(length), kept)
    number = min(int(fraction * length + 0.5), length - 1)
    chosen = np.zeros(length, bool)
    chosen[others[stream.order(length - 1)[:number]]] = True
    return chosen


def _visible_fractions(poses: Poses, shapes: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N, T): visible over all pixels of every object, estimated on a coarse raster."""
    scale = min(1.0, _COARSE_ROWS / height)
    small = replace(poses, x=poses.x * scale, y=poses.y * scale, radius=poses.radius * scale)
    fractions = np.zeros_like(poses.x)
    for time in range(poses.x.shape[1]):
        found = [silhouette(small, n, time, int(shape)) for n, shape in enumerate(shapes)]
        owner = owners(found, round(height * scale), round(width * scale))
        seen = np.bincount(owner.ravel() + 1, minlength=len(found) + 1)[1:]
        fractions[:, time] = seen / np.maximum([shape.area for shape in found], 1)
    return fractions
