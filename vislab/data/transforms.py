"""Geometric and photometric transforms of clips: pure numpy functions, masks and boxes kept exact.

One pixel convention throughout: pixel i covers [i, i+1), its centre is i + 0.5 (align_corners=False). Images are
resampled bilinearly and masks by nearest neighbour at the same continuous source position, so an output pixel of the
mask answers for the very point that the image pixel shows. Boxes are never transformed: they are read off the masks.

Shape letters: T frames, N instances, H W image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

__all__ = [
    "ClipSample",
    "adjust_colour",
    "crop",
    "flip",
    "jitter",
    "mask_boxes",
    "resize",
    "resize_frames",
    "rotate",
    "scaled_size",
    "take_instances",
    "visible_only",
]

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of ITU-R BT.601, as Pillow's "L" mode
_PADDING = (124, 116, 104)  # ImageNet's mean colour: zero after normalisation, like the padding of a batch


@dataclass(frozen=True)
class ClipSample:
    """One clip with its labels, before batching.

    frames: (T, H, W, 3) uint8 RGB. labels: (N,) int64 in 0..K-1. track_ids: (N,) int64. iscrowd: (N,) bool.
    masks: (N, T, H, W) bool. video: its name. frame_indices: source frame of each frame of the clip.
    """

    frames: np.ndarray
    labels: np.ndarray
    track_ids: np.ndarray
    iscrowd: np.ndarray
    masks: np.ndarray
    video: str = ""
    frame_indices: tuple[int, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.frames.shape[1], self.frames.shape[2]

    @property
    def frame_numbers(self) -> np.ndarray:
        """(T,) int64, rising: the source frames; 0..T-1 where some of them repeat (a still, a video played to and fro),
        since time goes on there too."""
        count = len(self.frames)
        distinct = len(set(self.frame_indices)) == count
        return np.array(self.frame_indices if distinct else range(count), np.int64)

    @cached_property
    def boxes(self) -> np.ndarray:
        """(N, T, 4) float32 tight xyxy boxes in pixels, x2 y2 exclusive; zeros where no pixel is visible."""
        return mask_boxes(self.masks)

    @property
    def present(self) -> np.ndarray:
        """(N, T) bool, True where the instance has at least one visible pixel."""
        return self.boxes[..., 2] > 0


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Tight boxes of masks (..., H, W) bool: (..., 4) float32 xyxy in pixels, x2 y2 exclusive; zeros if empty."""
    first_column, end_column = _extent(np.asarray(masks.any(axis=-2)))
    first_row, end_row = _extent(np.asarray(masks.any(axis=-1)))
    return np.stack([first_column, first_row, end_column, end_row], axis=-1).astype(np.float32)


def _extent(occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First True and one past the last True along the last axis of (..., S) bool; (0, 0) where none."""
    first = occupied.argmax(axis=-1)
    end = occupied.shape[-1] - occupied[..., ::-1].argmax(axis=-1)
    return first, np.where(occupied.any(axis=-1), end, 0)


def take_instances(clip: ClipSample, keep: np.ndarray) -> ClipSample:
    """The clip with only the instances chosen by `keep`, (N,) bool; the clip itself when all are kept."""
    if keep.all():
        return clip
    return replace(
        clip,
        labels=clip.labels[keep],
        track_ids=clip.track_ids[keep],
        iscrowd=clip.iscrowd[keep],
        masks=clip.masks[keep],
    )


def visible_only(clip: ClipSample) -> ClipSample:
    """Drops instances without a visible pixel in the whole clip."""
    return take_instances(clip, np.asarray(clip.present.any(axis=1)))


def flip(clip: ClipSample) -> ClipSample:
    """Mirrors every frame left to right."""
    columns = np.arange(clip.size[1] - 1, -1, -1)
    return replace(clip, frames=clip.frames.take(columns, axis=2), masks=np.ascontiguousarray(clip.masks[..., ::-1]))


def crop(clip: ClipSample, top: int, left: int, height: int, width: int) -> ClipSample:
    """The window [top, top+height) x [left, left+width) of every frame; it must lie inside the image.

    Instances that lose all their pixels stay, absent (`visible_only` drops them).
    """
    image_height, image_width = clip.size
    assert top >= 0 and left >= 0 and 0 < height <= image_height - top and 0 < width <= image_width - left
    rows, columns = slice(top, top + height), slice(left, left + width)
    return replace(clip, frames=clip.frames[:, rows, columns], masks=clip.masks[..., rows, columns])


def scaled_size(height: int, width: int, short_side: int, max_side: int | None = None) -> tuple[int, int]:
    """Size at which the shorter side is `short_side`, or less where the longer would exceed `max_side`.

    Aspect ratio kept up to rounding half up; the rule of detectron2 (transforms ResizeShortestEdge).
    """
    scale = short_side / min(height, width)
    if max_side is not None:
        scale = min(scale, max_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize(clip: ClipSample, height: int, width: int) -> ClipSample:
    """Resamples to (height, width): images bilinear and antialiased (Pillow), masks nearest.

    Mask pixel i of the output is source pixel floor((i + 0.5) * source / output).
    """
    if clip.size == (height, width):
        return clip
    rows = _nearest_index(clip.size[0], height)
    columns = _nearest_index(clip.size[1], width)
    return replace(
        clip,
        frames=resize_frames(clip.frames, height, width),
        masks=clip.masks.take(rows, axis=-2).take(columns, axis=-1),
    )


def resize_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """(T, H, W, 3) uint8 to (T, height, width, 3) uint8, bilinear with antialiasing where it shrinks (Pillow)."""
    if frames.shape[1:3] == (height, width):
        return frames
    resized = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames]
    return np.stack([np.asarray(image) for image in resized])


def jitter(
    clip: ClipSample, height: int, width: int, factors: Sequence[float], places: Sequence[tuple[float, float]]
) -> ClipSample:
    """Large-scale jittering: resizes frames to `factor` times (height, width), then crops or pads to (height, width).

    A single factor and place is that of all frames, otherwise each frame has its own. places: top and left of the
    window in a larger frame, or of a smaller one on the padding, as shares in [0, 1) of the room that there is.
    Instances that lose all their pixels stay, absent. Ghiasi et al., "Simple Copy-Paste", CVPR 2021, section 3; there
    and in detectron2 (FixedSizeCrop) smaller frames lie in the upper left corner: the same with places of 0.
    """
    count = len(clip.frames)
    assert len(factors) == len(places) and len(factors) in (1, count)
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = _PADDING
    masks = np.zeros((len(clip.masks), count, height, width), bool)
    for t in range(count):
        factor, (top, left) = factors[t % len(factors)], places[t % len(places)]
        rows = _Window.placed(clip.size[0], height, factor, top)
        columns = _Window.placed(clip.size[1], width, factor, left)
        frames[t, rows.shown, columns.shown] = _resized_window(clip.frames[t], rows, columns)
        seen = clip.masks[:, t].take(rows.nearest, axis=-2).take(columns.nearest, axis=-1)
        masks[:, t, rows.shown, columns.shown] = seen
    return replace(clip, frames=frames, masks=masks)


@dataclass(frozen=True)
class _Window:
    """Along one axis, the part of a resized image that is seen, and where.

    source: pixels of the image, which is resized to `scaled`; [first, first + count) of these are seen, in the pixels
    of the output from `start` on.
    """

    source: int
    scaled: int
    first: int
    count: int
    start: int

    @classmethod
    def placed(cls, source: int, size: int, factor: float, place: float) -> _Window:
        scaled = max(1, int(factor * size + 0.5))
        offset = int(place * (abs(scaled - size) + 1))
        if scaled >= size:
            return cls(source, scaled, first=offset, count=size, start=0)
        return cls(source, scaled, first=0, count=scaled, start=offset)

    @property
    def shown(self) -> slice:
        return slice(self.start, self.start + self.count)

    @property
    def nearest(self) -> np.ndarray:
        """(count,) int64: source pixel of each pixel that is seen."""
        return _nearest_index(self.source, self.scaled)[self.first : self.first + self.count]

    @property
    def edges(self) -> tuple[float, float]:
        """Begin and end in pixels of the source."""
        return self.first * self.source / self.scaled, (self.first + self.count) * self.source / self.scaled


def _resized_window(frame: np.ndarray, rows: _Window, columns: _Window) -> np.ndarray:
    """(H, W, 3) uint8 resized as by `resize_frames`, but only the pixels that are seen are computed."""
    (top, bottom), (left, right) = rows.edges, columns.edges
    size, box = (columns.count, rows.count), (left, top, right, bottom)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, box))


def _nearest_index(source: int, output: int) -> np.ndarray:
    """(output,) int64: source index of each output pixel, in integers so that no rounding can differ."""
    return (2 * np.arange(output) + 1) * source // (2 * output)


def adjust_colour(clip: ClipSample, brightness: float, contrast: float, saturation: float) -> ClipSample:
    """Scales brightness, contrast (about the clip's mean grey) and saturation (about each pixel's grey).

    Factors >= 0, 1 changes nothing; all frames get the same ones, so the clip does not flicker. The three steps in the
    order saturation, contrast, brightness are one affine map of RGB; results are rounded and clipped to 0..255.
    """
    gain = np.float32(brightness * contrast * saturation)
    grey_gain = np.float32(brightness * contrast * (1 - saturation))
    greys = np.stack([frame.astype(np.float32) @ _GREY for frame in clip.frames])
    shifts = grey_gain * greys + np.float32(brightness * (1 - contrast) * greys.mean() + 0.5)
    frames = np.empty_like(clip.frames)
    for channel in range(3):  # planes: numpy is several times slower at adding a shift to interleaved channels
        plane = clip.frames[..., channel] * gain + shifts
        frames[..., channel] = np.clip(plane, 0, 255, out=plane)
    return replace(clip, frames=frames)


def rotate(clip: ClipSample, degrees: Sequence[float]) -> ClipSample:
    """Rotates each frame about the image centre, counter-clockwise for positive angles; uncovered pixels are black.

    One angle per frame. A clip of one frame takes any number of angles and becomes a pseudo-video of that length
    (TAFormer, section 4.1). Images bilinear, masks nearest, through the same affine map.
    """
    still = len(clip.frames) == 1
    assert still or len(degrees) == len(clip.frames)
    frames = np.empty((len(degrees), *clip.frames.shape[1:]), np.uint8)
    masks = np.zeros((len(clip.masks), len(degrees), *clip.size), bool)
    for t, angle in enumerate(degrees):
        source = 0 if still else t
        affine = _rotation(*clip.size, angle)
        frames[t] = _warp_image(clip.frames[source], affine)
        _warp_masks(clip.masks[:, source], affine, out=masks[:, t])
    indices = clip.frame_indices * len(degrees) if still else clip.frame_indices
    return replace(clip, frames=frames, masks=masks, frame_indices=indices)


def _rotation(height: int, width: int, degrees: float) -> np.ndarray:
    """(2, 3) map from output to source positions (x, y, 1), both in pixels with centres at i + 0.5."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]])  # y points down: this turns the picture counter-clockwise
    centre = np.array([width / 2, height / 2])
    return np.concatenate([linear, (centre - linear @ centre)[:, None]], axis=1)


def _warp_image(frame: np.ndarray, affine: np.ndarray) -> np.ndarray:
    image = Image.fromarray(frame)
    coefficients = tuple(affine.ravel().tolist())
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))


def _warp_masks(masks: np.ndarray, affine: np.ndarray, out: np.ndarray) -> None:
    """Nearest neighbour of (N, H, W) masks into `out`, which is False where the source has no pixel."""
    height, width = masks.shape[1:]
    y, x = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    column = np.floor(affine[0, 0] * x + (affine[0, 1] * y + affine[0, 2])).astype(np.int64)
    row = np.floor(affine[1, 0] * x + (affine[1, 1] * y + affine[1, 2])).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    source = np.where(inside, row * width + column, 0)
    out[...] = masks.reshape(len(masks), height * width).take(source, axis=1) & inside
