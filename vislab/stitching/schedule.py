"""Which frames of a video each clip holds (acaelles97/DeVIS src/datasets/vis.py:176-209)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

Frame = TypeVar("Frame")


@dataclass(frozen=True)
class ClipWindow:
    """One clip. first: its first frame in the video. length: how many frames it predicts, from there on.

    inputs: the frames that the model sees; more than `length` only where the video is shorter than a clip, and then
    what the model says about those beyond is dropped.
    """

    first: int
    length: int
    inputs: tuple[int, ...]


def clip_windows(num_frames: int, clip_length: int, clip_stride: int) -> list[ClipWindow]:
    """Clips that cover a video of `num_frames` (0 or more), in ascending order, each of `clip_length` inputs.

    They start every `clip_stride` frames (1 to clip_length); the last one ends with the video and shares more frames
    with the one before where the stride does not fit. A video shorter than a clip is one clip, reflected at its ends.
    """
    assert num_frames >= 0 and 1 <= clip_stride <= clip_length, (num_frames, clip_length, clip_stride)
    if not num_frames:
        return []
    if num_frames < clip_length:
        inputs = tuple(reflected(position, num_frames) for position in range(clip_length))
        return [ClipWindow(0, num_frames, inputs)]
    last = num_frames - clip_length
    starts = [*range(0, last, clip_stride), last]
    return [ClipWindow(start, clip_length, tuple(range(start, start + clip_length))) for start in starts]


def streamed_windows(
    frames: Iterable[Frame], clip_length: int, clip_stride: int, *, reflect: bool = True
) -> Iterator[tuple[ClipWindow, list[Frame]]]:
    """The windows of `clip_windows`, each with its inputs, of frames whose number shows when they end.

    Holds clip_length + clip_stride frames at most; takes no frame before the window that needs it is asked for.
    reflect: False gives the model a video shorter than a clip as it is.
    """
    source = iter(frames)
    held = list(islice(source, clip_length))
    first, short = 0, len(held) < clip_length
    if held and short:
        (window,) = clip_windows(len(held), clip_length, clip_stride)
        inputs = window.inputs if reflect else tuple(range(len(held)))
        yield ClipWindow(0, len(held), inputs), [held[frame] for frame in inputs]
    while held and not short:
        yield ClipWindow(first, clip_length, tuple(range(first, first + clip_length))), held
        following = list(islice(source, clip_stride))
        held = (held + following)[-clip_length:]
        first += len(following)
        short = not following


def reflected(position: int, num_frames: int) -> int:
    """Frame at a position of the endless sequence 0, 1, ..., n-1, n-2, ..., 1, 0, 1, ...; a single frame repeats."""
    period = max(1, 2 * (num_frames - 1))
    phase = position % period
    return min(phase, period - phase) if num_frames > 1 else 0
