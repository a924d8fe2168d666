"""Videos of any length, also without a known end: frames in, each out again with its instances once these are final.

A model of clips sees overlapping clips, which are stitched; a model of frames follows them online or in windows.

Shape letters: T frames, H W image size, K classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import nn

from vislab.engine.clip_inference import ClipFollower
from vislab.engine.config import EvalConfig
from vislab.engine.infer import check_input
from vislab.engine.stream_inference import FRAMES_AT_ONCE, FrameFollower, FrameInstance, FrameResult, streamed_result
from vislab.errors import UserError
from vislab.stitching import ClipInferenceConfig, StitchingConfig, TrackedFrame, VideoInstance, VideoTracks
from vislab.stitching.associated_tracks import AssociatedTracks
from vislab.stitching.schedule import streamed_windows
from vislab.stitching.video_stream import StreamedFrame

__all__ = ["VideoPredictor", "clips_of", "shown_evaluation"]

USUAL_CLIP = 24  # frames, for models that take clips of any length and were evaluated on videos of unknown length
# A video that is one clip gives what it gives as a whole: every candidate is an instance.
EVERY_CANDIDATE = StitchingConfig(min_frame_score=0.0, min_track_score=0.0)


def clips_of(
    config: EvalConfig, model: nn.Module, clip_length: int | None = None, clip_stride: int | None = None
) -> ClipInferenceConfig:
    """The overlapping clips in which a model of clips sees a video of any length.

    clip_length, clip_stride: in place of what the evaluation has. Without either, clips are as long as the model wants
    them, or as the videos that it was evaluated on, and two thirds as long from start to start. Raises UserError for a
    length that the model does not take.
    """
    known = config.clips
    if known is None:
        length = getattr(model, "clip_length", None) or config.data.length or USUAL_CLIP
        known = ClipInferenceConfig(length, _usual_stride(length), EVERY_CANDIDATE)
    length = known.clip_length if clip_length is None else clip_length
    fitting = known.clip_stride if length == known.clip_length else _usual_stride(length)
    clips = replace(known, clip_length=length, clip_stride=fitting if clip_stride is None else clip_stride)
    check_input(model, replace(config, clips=clips, augmentation=None), length)
    return clips


def shown_evaluation(config: EvalConfig, short_side: int | None, max_instances: int | None) -> EvalConfig:
    """With frames of another size, their longer side then as it comes, and at least so many instances; None: as it is.

    Raises UserError for a size that is none.
    """
    if short_side is not None:
        if short_side < 1:
            raise UserError(f"--size is {short_side}, expected at least 1")
        config = replace(config, short_side=short_side, max_side=None)
    return replace(config, top_k=max(config.top_k, max_instances or 0))


def _usual_stride(clip_length: int) -> int:
    return max(1, round(2 * clip_length / 3))  # DeVIS: 4 of 6


class VideoPredictor:
    """Follows one video with one model. Memory is bounded by the clip or window, but for `keep_tracks`.

    Args:
        config: what was evaluated; whole videos and test-time augmentation become overlapping clips.
        num_categories: of the data set; logits beyond them are not read.
        clip_length, clip_stride: see `clips_of`; not for models of frames.
        keep_tracks: remember run-length codes and scores of all frames, for `instances`.

    Raises:
        UserError: the model does not take such parts of a video.
    """

    def __init__(
        self, model: nn.Module, config: EvalConfig, num_categories: int, device: torch.device, *,
        clip_length: int | None = None, clip_stride: int | None = None, keep_tracks: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.config, self.num_categories, self.device = model.eval(), config, num_categories, device
        self.keep_tracks = keep_tracks
        self.clips: ClipInferenceConfig | None = None
        if config.stream is None:
            self.clips = clips_of(config, model, clip_length, clip_stride)
        elif clip_length is not None or clip_stride is not None:
            raise UserError(f"{type(model).__name__} predicts single frames, expected no length or stride of clips")
        # a video that is evaluated as a whole is shown as a whole if it is no longer than a clip
        self._reflect = config.clips is not None or getattr(model, "clip_length", None) is not None
        self._tracks: VideoTracks | AssociatedTracks | None = None

    def follow(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, FrameResult]]:
        """frames: (H, W, 3) uint8, RGB, all of one size; taken when they are needed.

        Gives them in order, each with its instances, as soon as nothing later can change these.
        """
        waiting: deque[np.ndarray] = deque()

        def taken() -> Iterator[np.ndarray]:
            for frame in frames:
                waiting.append(frame)
                yield frame

        for result in self._stream(taken()) if self.clips is None else self._clips(taken(), self.clips):
            yield waiting.popleft(), result
        assert not waiting

    def instances(self) -> list[VideoInstance]:
        """Of the video as it was followed to its end: the instances that an evaluation would get."""
        top_k, least = self.config.top_k, self.config.score_threshold
        if isinstance(self._tracks, VideoTracks):
            assert self.clips is not None
            return self._tracks.instances(self.clips.stitching, top_k=top_k, score_threshold=least)
        assert self._tracks is not None, "asked for without keep_tracks, or before the end"
        return self._tracks.instances(top_k=top_k, score_threshold=least)

    def _clips(self, frames: Iterator[np.ndarray], clips: ClipInferenceConfig) -> Iterator[FrameResult]:
        follower = ClipFollower(self.model, self.config, clips, self.num_categories, self.device)
        tracks = self._tracks = VideoTracks() if self.keep_tracks else None

        def finish(finished: list[TrackedFrame]) -> Iterator[FrameResult]:
            if tracks is not None:
                tracks.add(finished)
            return map(tracked_result, finished)

        windows = streamed_windows(frames, clips.clip_length, clips.clip_stride, reflect=self._reflect)
        for window, inputs in windows:
            yield from finish(follower.push(np.stack(inputs), window))
        yield from finish(follower.flush())

    def _stream(self, frames: Iterator[np.ndarray]) -> Iterator[FrameResult]:
        config, stream = self.config, self.config.stream
        assert stream is not None
        follower = FrameFollower(
            self.model, stream, self.num_categories, short_side=config.short_side, max_side=config.max_side,
            mask_threshold=config.mask_threshold, mask_alignment=config.mask_alignment,
        )  # fmt: skip
        tracks = self._tracks = AssociatedTracks(stream.association, follower.encode) if self.keep_tracks else None

        def finished() -> Iterator[StreamedFrame]:
            while chunk := list(islice(frames, FRAMES_AT_ONCE)):
                yield from follower.push(np.stack(chunk))
            yield from follower.flush()

        for frame in finished():
            if tracks is not None:
                tracks.add(frame)
            yield streamed_result(frame, follower)


def tracked_result(frame: TrackedFrame) -> FrameResult:
    """A stitched frame in the form that streamed frames have."""
    instances = (FrameInstance(i.track_id, i.label, i.score, True, i.segmentation) for i in frame.instances)
    return FrameResult(frame.frame, tuple(instances))
