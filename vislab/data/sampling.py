"""Training clips by counter-based randomness: (seed, step, sample) decides everything.

Each clip has a Philox stream of its own. It depends neither on the clips before it nor on the number of workers or
ranks, nor on whether the run was resumed: rank r of a job with b clips per rank asks for samples r*b .. r*b + b - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vislab.config import added_later
from vislab.data import transforms
from vislab.data.transforms import ClipSample
from vislab.errors import UserError

if TYPE_CHECKING:
    from vislab.data.dataset import VideoDataset
    from vislab.structures import Batch

__all__ = ["SamplingConfig", "clip_frames", "random_stream", "training_batch", "training_clip"]

_ATTEMPTS = 100  # clips without a visible instance are drawn anew, this often at most
_SMALLEST_CROP = 0.6  # of each side


@dataclass(frozen=True)
class SamplingConfig:
    """How training clips are drawn and augmented.

    clip_length: frames per clip, >= 1. clip_stride: largest gap between neighbouring frames; gaps are drawn in
    1..clip_stride. short_sides: one is drawn per clip as the length of the shorter side (empty: size kept); max_side
    bounds the longer one then. flip, crop: probabilities; a crop keeps 60-100 % of each side and, without short_sides,
    is enlarged again to fit the old size. colour: strength s; brightness, contrast and saturation factors are drawn in
    [1-s, 1+s]. rotation_degrees: when > 0 a clip is one still, whose copies are rotated independently by up to this
    angle either way (pseudo-video, TAFormer section 4.1). jitter: smallest and largest factor of large-scale jittering,
    (0.1, 2.0) in Ghiasi et al. (CVPR 2021): frames are resized to so many times the size that they would have, and
    cropped or padded to that size; one factor and place a clip, but one a frame where the frames are copies of a still,
    of a data set of images or by rotation_degrees (RefineVIS section 4.1). Raises UserError for values out of range.
    """

    clip_length: int = 5
    clip_stride: int = 1
    short_sides: tuple[int, ...] = ()
    max_side: int | None = None
    flip: float = 0.5
    crop: float = 0.0
    colour: float = 0.0
    rotation_degrees: float = 0.0
    jitter: tuple[float, float] | None = field(default=None, metadata=added_later())

    def __post_init__(self) -> None:
        for name, low, high in (("flip", 0, 1), ("crop", 0, 1), ("colour", 0, 1), ("rotation_degrees", 0, 180)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"SamplingConfig.{name} is {value}, expected a number from {low} to {high}")
        for name in ("clip_length", "clip_stride"):
            if getattr(self, name) < 1:
                raise UserError(f"SamplingConfig.{name} is {getattr(self, name)}, expected at least 1")
        for name, sides in (("short_sides", self.short_sides), ("max_side", (self.max_side,))):
            if any(side is not None and side < 1 for side in sides):
                raise UserError(f"SamplingConfig.{name} is {getattr(self, name)}, expected at least 1 pixel")
        if self.jitter is not None and not 0 < self.jitter[0] <= self.jitter[1] < math.inf:
            raise UserError(f"SamplingConfig.jitter is {self.jitter}, expected two rising factors above 0")


def random_stream(seed: int, step: int, sample: int, attempt: int = 0) -> np.random.Generator:
    """Generator of one clip: Philox 4x64 (Salmon et al., SC 2011), key = seed, counter = (0, attempt, sample, step).

    Streams never overlap: the lowest counter word alone allows 2^64 blocks. All arguments in 0..2^64-1.
    """
    # explicit uint64: from plain lists numpy goes through float64 and loses the low bits of large values
    key, counter = np.array([seed, 0], np.uint64), np.array([0, attempt, sample, step], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def training_batch(
    dataset: VideoDataset, config: SamplingConfig, *, batch_size: int, seed: int, step: int, first_sample: int = 0
) -> Batch:
    """Batch of the clips first_sample .. first_sample + batch_size - 1 of a step; see `training_clip`."""
    from vislab.data.collate import collate  # keeps torch out of `training_clip`

    samples = range(first_sample, first_sample + batch_size)
    return collate([training_clip(dataset, config, seed, step, sample) for sample in samples])


def training_clip(dataset: VideoDataset, config: SamplingConfig, seed: int, step: int, sample: int) -> ClipSample:
    """Clip number `sample` (counted over all ranks) of a training step, augmented.

    The video is drawn uniformly. A clip that shows no instance (crowds do not count), before or after augmentation, is
    drawn anew from the next stream of the same (seed, step, sample). Raises UserError if 100 clips in a row show none.
    """
    for attempt in range(_ATTEMPTS):
        rng = random_stream(seed, step, sample, attempt)
        clip = _load_clip(dataset, config, rng)
        if clip is None:
            continue
        clip = transforms.visible_only(_augment(clip, config, rng))
        if not clip.iscrowd.all():
            return clip
    raise UserError(
        f"data set {dataset.name}: {_ATTEMPTS} random clips of {config.clip_length} frames show no labelled instance; "
        "expected annotations in most videos"
    )


def _load_clip(dataset: VideoDataset, config: SamplingConfig, rng: np.random.Generator) -> ClipSample | None:
    """A random clip, or None if it shows no instance (its images are then never read)."""
    video = _integer(rng, len(dataset))
    info = dataset.info(video)
    still = config.rotation_degrees > 0
    indices = clip_frames(info.length, 1 if still else config.clip_length, config.clip_stride, rng)
    labels = dataset.annotations(video, indices)
    if not labels.present[~labels.iscrowd].any():
        return None
    frames = dataset.frames(video, indices)
    return ClipSample(
        frames, labels.labels, labels.track_ids, labels.iscrowd, labels.masks, info.name, tuple(map(int, indices))
    )


def clip_frames(length: int, clip_length: int, clip_stride: int, rng: np.random.Generator) -> list[int]:
    """Frame indices of a random clip from a video of `length` frames.

    Gaps are uniform in 1..g, where g is clip_stride or, in a short video, the largest gap at which every draw fits; the
    start is uniform over what then fits. A video shorter than the clip is played to and fro from a random frame
    (..., 2, 1, 0, 1, 2, ...), so that neighbours stay neighbours.
    """
    if length < clip_length:
        start = _integer(rng, length)
        return [_reflect(start + offset, length) for offset in range(clip_length)]
    largest_gap = min(clip_stride, (length - 1) // (clip_length - 1)) if clip_length > 1 else 1
    offsets = [0]
    for _ in range(clip_length - 1):
        offsets.append(offsets[-1] + 1 + _integer(rng, largest_gap))
    start = _integer(rng, length - offsets[-1])
    return [start + offset for offset in offsets]


def _reflect(position: int, length: int) -> int:
    """Triangle wave over 0..length-1 without repeating the end frames."""
    if length == 1:
        return 0
    phase = position % (2 * (length - 1))
    return min(phase, 2 * (length - 1) - phase)


def _augment(clip: ClipSample, config: SamplingConfig, rng: np.random.Generator) -> ClipSample:
    if config.rotation_degrees > 0:
        degrees = config.rotation_degrees * (2 * rng.random(config.clip_length) - 1)
        clip = transforms.rotate(clip, degrees.tolist())
    size = clip.size
    if rng.random() < config.crop:
        clip = _random_crop(clip, rng)
    if config.short_sides:
        short_side = config.short_sides[_integer(rng, len(config.short_sides))]
        size = transforms.scaled_size(*clip.size, short_side, config.max_side)
    else:
        size = _fitted_size(clip.size, size)
    clip = transforms.resize(clip, *size) if config.jitter is None else _jitter(clip, size, config.jitter, rng)
    if rng.random() < config.flip:
        clip = transforms.flip(clip)
    if config.colour > 0:
        brightness, contrast, saturation = 1 + config.colour * (2 * rng.random(3) - 1)
        clip = transforms.adjust_colour(clip, brightness, contrast, saturation)
    return clip


def _jitter(
    clip: ClipSample, size: tuple[int, int], factors: tuple[float, float], rng: np.random.Generator
) -> ClipSample:
    """One draw for a clip of a video; one for every frame of a pseudo-video, which are all the same still."""
    still = len(set(clip.frame_indices)) == 1
    draws = rng.random((len(clip.frames) if still else 1, 3))
    drawn = factors[0] + (factors[1] - factors[0]) * draws[:, 0]
    places = [(top, left) for top, left in draws[:, 1:].tolist()]
    return transforms.jitter(clip, *size, drawn.tolist(), places)


def _random_crop(clip: ClipSample, rng: np.random.Generator) -> ClipSample:
    """A window of 60-100 % of each side, anywhere in the image."""
    fractions = _SMALLEST_CROP + (1 - _SMALLEST_CROP) * rng.random(2)
    height, width = (max(1, round(side * fraction)) for side, fraction in zip(clip.size, fractions, strict=True))
    top = _integer(rng, clip.size[0] - height + 1)
    left = _integer(rng, clip.size[1] - width + 1)
    return transforms.crop(clip, top, left, height, width)


def _fitted_size(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """`size` scaled to touch `frame` from inside: a crop without short_sides never grows the batch."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _integer(rng: np.random.Generator, bound: int) -> int:
    """Uniform in 0..bound-1 from one double: unlike Generator.integers its stream is the same in every numpy."""
    return int(rng.random() * bound)
