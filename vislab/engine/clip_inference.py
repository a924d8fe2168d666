"""Near-online inference (DeVIS section 3.5, IFC section 3.3): overlapping clips of a video, one after the other, whose
instances become those of the video.

Shape letters: T frames of a clip, Q queries, K classes, M detections, H W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from vislab.data.collate import video_batch
from vislab.engine.config import EvalConfig
from vislab.engine.mask_encoding import MaskSampling, resize_masks
from vislab.engine.pairs import best_pairs, category_scores, pair_masks
from vislab.errors import UserError
from vislab.stitching import (
    ClipDetections,
    ClipInferenceConfig,
    ClipInstances,
    ClipStitcher,
    ClipTracker,
    ClipTrackingConfig,
    ImageMasks,
    TrackedFrame,
    VideoInstance,
    VideoTracks,
)
from vislab.stitching.schedule import ClipWindow, clip_windows
from vislab.structures import ModelOutput


@dataclass(frozen=True)
class Video:
    """A video whose frames are read when they are needed: positions to (n, H, W, 3) uint8 RGB.

    index: in its data set.
    """

    length: int
    read: Callable[[Sequence[int]], np.ndarray]
    index: int = 0


def check_clip_length(model: nn.Module, config: EvalConfig, video_length: int) -> None:
    """Raises UserError if the model takes clips of one length only and would get others."""
    wanted = getattr(model, "clip_length", None)
    if wanted is None or not video_length:
        return
    if config.clips is None and wanted != video_length:
        found = f"evaluation.clips is None, which gives the model a whole video of {video_length} frames"
        raise UserError(f"{found}, expected evaluation.clips.clip_length {wanted}: the model takes clips of {wanted}")
    if config.clips is not None and wanted != config.clips.clip_length:
        found = f"evaluation.clips.clip_length is {config.clips.clip_length}"
        raise UserError(f"{found}, expected {wanted}: the model takes clips of so many frames")


def predict_clips(
    model: nn.Module,
    video: Video,
    config: EvalConfig,
    clips: ClipInferenceConfig,
    num_categories: int,
    device: torch.device,
    advance: Callable[[], None],
) -> list[VideoInstance]:
    """The `config.top_k` best tracks of a video of any length, best first; memory is bounded by the clip.

    advance: called after each clip.
    """
    follower, tracks = ClipFollower(model, config, clips, num_categories, device), VideoTracks()
    for window in clip_windows(video.length, clips.clip_length, clips.clip_stride):
        tracks.add(follower.push(video.read(window.inputs), window))
        advance()
    tracks.add(follower.flush())
    return tracks.instances(clips.stitching, top_k=config.top_k, score_threshold=config.score_threshold)


class ClipFollower:
    """Model and stitcher, or tracker, of one video: clips of frames to finished frames. Holds what neighbouring clips
    share."""

    def __init__(
        self, model: nn.Module, config: EvalConfig, clips: ClipInferenceConfig, num_categories: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.model, self.config, self.clips = model, config, clips
        self.num_categories, self.device = num_categories, device
        self._linking: ClipStitcher | ClipTracker | None = None

    @torch.inference_mode()
    def push(self, frames: np.ndarray, window: ClipWindow) -> list[TrackedFrame]:
        """frames: (T, H, W, 3) uint8, RGB, the inputs of the next window. Gives the frames before it."""
        if isinstance(self.clips.stitching, ClipTrackingConfig) and getattr(self.model, "clip_length", None) is None:
            frames = frames[: window.length]  # IFC reflects no short video
        batch = video_batch(frames, self.config.short_side, self.config.max_side).to(self.device)
        output = self.model(batch.images, batch.padding_mask)
        if self._linking is None:
            self._linking = self._start(MaskSampling.of(self.model, batch, self.config), frames.shape[1:3])
        if isinstance(self._linking, ClipTracker):
            return self._linking.push(clip_instances(output, window, self.config.top_k, self.num_categories))
        return self._linking.push(clip_detections(output, window, self.config.top_k, self.num_categories))

    @torch.inference_mode()
    def flush(self) -> list[TrackedFrame]:
        """The frames that are left, after the last clip."""
        return [] if self._linking is None else self._linking.flush()

    def _start(self, sampling: MaskSampling, size: tuple[int, ...]) -> ClipStitcher | ClipTracker:
        masks, rule = image_masks(sampling, size, self.config.mask_threshold), self.clips.stitching
        return ClipTracker(rule, masks) if isinstance(rule, ClipTrackingConfig) else ClipStitcher(self.clips, masks)


def image_masks(sampling: MaskSampling, size: tuple[int, ...], threshold: float) -> ImageMasks:
    """Masks at image size, (H, W), as `encode_masks` makes them."""
    height, width = size

    def resize(logits: Tensor) -> Tensor:
        return resize_masks(logits, sampling, (height, width))

    return ImageMasks(resize, threshold)


def clip_detections(output: ModelOutput, window: ClipWindow, top_k: int, num_categories: int) -> ClipDetections:
    """The `top_k` best pairs of query and class by the mean of their scores over the frames of the window.

    output: of one clip (B = 1). A model with one score for the whole clip has it in every frame. Frames beyond the
    window, which only repeat others, count for nothing (acaelles97/DeVIS src/models/devis_segmentation.py:129-146).
    """
    output = _without_repeated_frames(output, window)
    logits = output.pred_logits
    by_frame = logits.dim() == 4
    scores = category_scores(output, num_categories).nan_to_num(nan=0.0)
    best, query, label = best_pairs(scores, top_k)
    frame_scores = logits[0, query, :, label].float().sigmoid() if by_frame else best[:, None].expand(-1, window.length)
    assert output.pred_masks is not None
    mask_logits, mask_index = pair_masks(output.pred_masks, query, label)
    return ClipDetections(
        first=window.first,
        labels=label.cpu().numpy(),
        scores=frame_scores.cpu().numpy(),
        boxes=output.pred_boxes[0, query, : window.length].float().cpu().numpy(),
        mask_index=mask_index.cpu().numpy(),
        mask_logits=mask_logits[:, : window.length],
    )


def clip_instances(output: ModelOutput, window: ClipWindow, top_k: int, num_categories: int) -> ClipInstances:
    """The `top_k` queries whose best class scores most, each once, with the scores of all classes.

    output: of one clip (B = 1). IFC takes the queries that rather see a class than none (projects/IFC/ifc/ifc.py,
    inference_clip), which sigmoids do not tell. A model with masks for each class gives that of the best one.
    """
    scores = category_scores(_without_repeated_frames(output, window), num_categories).nan_to_num(nan=0.0)
    best, labels = scores.max(1)
    queries = best.topk(min(top_k, len(best))).indices
    assert output.pred_masks is not None
    mask_logits, mask_index = pair_masks(output.pred_masks, queries, labels[queries])
    return ClipInstances(window.first, scores[queries].cpu().numpy(), mask_logits[mask_index, : window.length])


def _without_repeated_frames(output: ModelOutput, window: ClipWindow) -> ModelOutput:
    """With no logits of frames beyond the window."""
    logits = output.pred_logits
    return replace(output, pred_logits=logits[:, :, : window.length]) if logits.dim() == 4 else output
