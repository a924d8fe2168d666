"""Videos frame by frame, as they arrive or as a whole: detections are associated, and tracks refined (RefineVIS 3.6).

Shape letters: T frames of one call, F frames of the model's batch, n instances, K classes, H W image size, h w size of
mask logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from vislab.blocks.temporal_attention_refinement import TemporalAttentionRefinement
from vislab.data.collate import video_batch
from vislab.engine.clip_inference import Video
from vislab.engine.config import EvalConfig
from vislab.engine.mask_encoding import MaskSampling, encode_masks
from vislab.errors import UserError, require
from vislab.losses.frame_predictions import FramePredictions
from vislab.rle import RLE
from vislab.stitching import VideoInstance
from vislab.stitching.associated_tracks import AssociatedTracks
from vislab.stitching.video_stream import StreamConfig, StreamedFrame, VideoStream

Alignment = Literal["target", "interpolate"]

ONLINE = StreamConfig()
FRAMES_AT_ONCE = 8  # that the model sees together where a whole video is there


@runtime_checkable
class FrameLevelModel(Protocol):
    """A model that predicts single frames, to be associated and, with `tar`, refined. RefineVIS is one."""

    mask_stride: int
    tar: TemporalAttentionRefinement | None

    def frames(self, images: Tensor, padding_mask: Tensor) -> FramePredictions:
        """images: (F, 3, H, W), H and W multiples of 32; padding_mask: (F, H, W). With association embeddings."""
        ...


@dataclass(frozen=True)
class FrameInstance:
    """One track in one frame.

    track_id: from 0, the same in all frames of the video. label: 0..K-1, the class of highest score in this frame, and
    that score. seen: False where no detection of the frame is the track's, lost or taken by another track, and its
    mask was made by refinement. segmentation: run-length code at image size, None for an empty mask.
    """

    track_id: int
    label: int
    score: float
    seen: bool
    segmentation: RLE | None


@dataclass(frozen=True)
class FrameResult:
    """A finished frame. frame: its number, from 0. instances: by ascending track_id."""

    frame: int
    instances: tuple[FrameInstance, ...]


class FrameFollower:
    """Model and stream of one video: images to streamed frames, mask logits to codes. Holds no frames, and no features
    but those that an offline window waits for.

    short_side, max_side, mask_threshold, mask_alignment: as in EvalConfig. num_categories: of the data set; logits
    beyond them are not read. Frames of one video have one size. Raises UserError for a model that takes something else
    or an option out of its range.
    """

    def __init__(
        self, model: nn.Module, stream: StreamConfig, num_categories: int | None, *, short_side: int | None,
        max_side: int | None, mask_threshold: float, mask_alignment: Alignment,
    ) -> None:  # fmt: skip
        require(isinstance(stream, StreamConfig), "stream", stream, "a StreamConfig")
        counts = {"num_categories": num_categories, "short_side": short_side, "max_side": max_side}
        for name, count in counts.items():
            fits = count is None or (isinstance(count, int) and count >= 1)
            require(fits, name, count, "None or a whole number from 1 on")
        require(0 <= mask_threshold < 1, "mask_threshold", mask_threshold, "a probability in [0, 1)")
        alignments = get_args(Alignment)
        require(mask_alignment in alignments, "mask_alignment", mask_alignment, " or ".join(map(repr, alignments)))
        self.model, self.device = frame_level(model), next(model.parameters()).device
        self.sides, self.threshold, self.alignment = (short_side, max_side), mask_threshold, mask_alignment
        self._stream = VideoStream(stream, self.model.tar, num_categories)
        self._size: tuple[int, ...] = ()
        self._sampling: MaskSampling | None = None

    @torch.inference_mode()
    def push(self, frames: np.ndarray) -> list[StreamedFrame]:
        """frames: (T, H, W, 3) uint8, RGB, the next ones. Gives the frames that are finished.

        Raises UserError for anything else, and for frames of another size than those before them.
        """
        _check_frames(frames)
        batch = video_batch(frames, *self.sides).to(self.device)
        if self._sampling is None:
            size = int(batch.image_sizes[0, 0]), int(batch.image_sizes[0, 1])
            self._size, self._sampling = frames.shape[1:3], MaskSampling(self.model.mask_stride, size, self.alignment)
        if frames.shape[1:3] != self._size:
            expected = "x".join(map(str, self._size))
            raise UserError(f"a frame is {frames.shape[1]}x{frames.shape[2]}, expected {expected} as those before it")
        predictions = self.model.frames(batch.images[0], batch.padding_mask.expand(len(frames), -1, -1))
        predictions.aux_outputs = []  # else waiting frames would hold them
        return self._stream.push(predictions)

    @torch.inference_mode()
    def flush(self) -> list[StreamedFrame]:
        """At the end of the video: the frames that still wait for the rest of their window."""
        return self._stream.flush()

    @torch.inference_mode()
    def encode(self, logits: Tensor) -> list[RLE | None]:
        """Mask logits (n, h, w) to codes at image size."""
        assert self._sampling is not None
        codes = encode_masks(logits[:, None], self._sampling, self._size, self.threshold)
        return [code for (code,) in codes]


def _check_frames(frames: object) -> None:
    """Raises UserError for anything but images that are not empty, (T, H, W, 3) uint8."""
    found = type(frames).__name__
    if isinstance(frames, np.ndarray):
        if frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3 and min(frames.shape[1:3]) > 0:
            return
        found = f"{frames.dtype} of shape {frames.shape[1:]}"
    raise UserError(f"a frame is {found}, expected a numpy array, uint8 of shape (height, width, 3), RGB")


def frame_level(model: nn.Module) -> FrameLevelModel:
    """The model itself. Raises UserError if it takes clips, or if its detections cannot be associated."""
    if not isinstance(model, FrameLevelModel):
        expected = "a model of single frames with association, such as refinevis or idol"
        raise UserError(f"the model is a {type(model).__name__}, expected {expected}")
    return model


def stream_video(
    model: nn.Module,
    frames: Iterable[np.ndarray],
    stream: StreamConfig = ONLINE,
    *,
    num_categories: int | None = None,
    short_side: int | None = None,
    max_side: int | None = None,
    mask_threshold: float = 0.5,
    mask_alignment: Alignment = "target",
) -> Iterator[FrameResult]:
    """Results of a video frame by frame, as frames arrive (RefineVIS section 3.6, online; IDOL).

    A frame is taken from `frames` when the next result is asked for. Online its result comes at once and never changes;
    with mode "offline" those of a window come together. Memory depends on the number of living tracks and the window,
    not on the length of the video, which may have no end.

    Args:
        model: of single frames, such as "refinevis" or "idol"; on the device on which it is to run.
        frames: (H, W, 3) uint8, RGB, all of one size.
        stream: how detections are associated and refined.
        num_categories: classes of the data set; None: all that the model has.
        short_side, max_side, mask_threshold, mask_alignment: as in EvalConfig.

    Raises:
        UserError: the model is of another kind, an option is out of its range, or a frame is no such array or has
            another size than the ones before it.

    >>> import numpy as np, vislab
    >>> model = vislab.build_model("refinevis", scale="smoke")
    >>> camera = (np.full((64, 96, 3), 60 * number, np.uint8) for number in range(3))
    >>> [result.frame for result in vislab.stream_video(model, camera)]
    [0, 1, 2]
    """
    model.eval()
    follower = FrameFollower(
        model, stream, num_categories, short_side=short_side, max_side=max_side, mask_threshold=mask_threshold,
        mask_alignment=mask_alignment,
    )  # fmt: skip
    for frame in frames:
        single = frame[None] if isinstance(frame, np.ndarray) else frame  # what is no image is refused by `push`
        yield from (streamed_result(streamed, follower) for streamed in follower.push(single))
    yield from (streamed_result(streamed, follower) for streamed in follower.flush())


def streamed_result(frame: StreamedFrame, follower: FrameFollower) -> FrameResult:
    """Labels, scores and codes of the instances of a frame that its follower gave."""
    if not frame.instances:
        return FrameResult(frame.frame, ())
    codes = follower.encode(torch.stack([instance.mask_logits for instance in frame.instances]))
    best = [instance.scores.max(0) for instance in frame.instances]
    instances = tuple(
        FrameInstance(cell.track_id, int(label), float(score), cell.seen, code)
        for cell, (score, label), code in zip(frame.instances, best, codes, strict=True)
    )
    return FrameResult(frame.frame, instances)


def predict_stream(
    model: nn.Module,
    video: Video,
    config: EvalConfig,
    stream: StreamConfig,
    num_categories: int,
    advance: Callable[[], None],
    frames_at_once: int = FRAMES_AT_ONCE,
) -> list[VideoInstance]:
    """The `config.top_k` best pairs of track and class of a video of any length, best first.

    Images and features of `frames_at_once` frames are held at a time. How many makes no difference but that of the last
    bits of the model's arithmetic. advance: called after each chunk.
    """
    follower = FrameFollower(
        model, stream, num_categories, short_side=config.short_side, max_side=config.max_side,
        mask_threshold=config.mask_threshold, mask_alignment=config.mask_alignment,
    )  # fmt: skip
    tracks = AssociatedTracks(stream.association, follower.encode)
    for chunk in chunks(video.length, frames_at_once):
        for frame in follower.push(video.read(chunk)):
            tracks.add(frame)
        advance()
    for frame in follower.flush():
        tracks.add(frame)
    return tracks.instances(top_k=config.top_k, score_threshold=config.score_threshold)


def chunks(length: int, size: int = FRAMES_AT_ONCE) -> list[range]:
    """Frames 0..length-1 in parts of `size`."""
    return [range(start, min(start + size, length)) for start in range(0, length, size)]
