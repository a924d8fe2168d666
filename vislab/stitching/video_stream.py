"""Results of a video frame by frame: association, then refinement online or in windows (RefineVIS sections 3.3-3.6).

Shape letters: F frames of one call, N tracklets, W window, K classes, C channels, h w mask size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vislab.blocks.temporal_attention_refinement import TemporalAttentionRefinement
from vislab.blocks.tracklet_memory import OnlineRefinement
from vislab.config import to_dict
from vislab.errors import UserError
from vislab.losses.frame_predictions import FramePredictions, gather_tracklets, tracklet_references
from vislab.stitching.association import AssociationConfig, AssociationTracker
from vislab.stitching.candidates import class_scores, select_candidates


@dataclass(frozen=True)
class StreamConfig:
    """mode: "online" gives a frame as it arrives; "offline" W frames at a time, each refined by all of them.

    window: W; None is that of the model's TAR; 0 refines nothing.
    """

    association: AssociationConfig = AssociationConfig()
    mode: Literal["online", "offline"] = "online"
    window: int | None = None

    def __post_init__(self) -> None:
        to_dict(self)  # raises UserError where a value does not fit its annotation
        if self.window is not None and self.window < 0:
            raise UserError(f"window is {self.window}, expected None, 0 (no refinement) or more frames")


@dataclass(frozen=True)
class StreamedInstance:
    """One track in one frame. seen: whether a detection is its; if not, the frame was recovered by refinement.

    scores: (K,) in [0, 1]. mask_logits: (h, w), at the model's mask stride.
    """

    track_id: int
    seen: bool
    scores: Tensor
    mask_logits: Tensor


@dataclass(frozen=True)
class StreamedFrame:
    """A finished frame. instances: by ascending track_id."""

    frame: int
    instances: tuple[StreamedInstance, ...]


@dataclass(frozen=True)
class _AssociatedFrame:
    """queries: query of each track that was seen. alive: all tracks that may be in the frame, in order."""

    number: int
    predictions: FramePredictions
    index: int  # of the frame in predictions
    queries: dict[int, int]
    alive: list[int]


class VideoStream:
    """Follows one video of any length. Holds a few embeddings of each living track and, offline, W frames.

    Usable with any model that gives FramePredictions; use one stream for each video, without gradient.

    Args:
        refinement: TAR; None leaves everything as the frame-level model has it.
        num_categories: of the data set; logits beyond them are not read.
    """

    def __init__(
        self, config: StreamConfig, refinement: TemporalAttentionRefinement | None, num_categories: int | None = None
    ) -> None:
        self.config, self.num_categories = config, num_categories
        window = config.window
        if refinement is None:
            window = 0
        elif window is None:
            window = refinement.config.window
        self.window = window
        self._layer = refinement if window else None
        self._online = OnlineRefinement(refinement, window) if refinement is not None and window else None
        self._tracker = AssociationTracker(config.association)
        self._places: dict[int, Tensor] = {}  # where living tracks were seen last, (2,) each
        self._num_frames = 0
        self._waiting: list[_AssociatedFrame] = []

    @torch.no_grad()
    def push(self, predictions: FramePredictions) -> list[StreamedFrame]:
        """Takes the next frames in order, F of them; gives the frames that are finished: online all of these."""
        finished = []
        for index in range(len(predictions.logits)):
            frame = self._associate(predictions, index)
            if self._layer is not None and self.config.mode == "offline":
                self._waiting.append(frame)
                if len(self._waiting) == self.window:
                    finished += self.flush()
            else:
                finished.append(self._online_frame(frame))
        return finished

    @torch.no_grad()
    def flush(self) -> list[StreamedFrame]:
        """At the end of the video: the frames that still wait for the rest of their window."""
        frames, self._waiting = self._waiting, []
        return self._window_frames(frames) if frames else []

    def _associate(self, predictions: FramePredictions, index: int) -> _AssociatedFrame:
        number = self._num_frames
        self._num_frames += 1
        candidates = select_candidates(predictions, index, self.config.association, self.num_categories)
        found = self._tracker.update(number, candidates.embeddings, candidates.scores)
        pairs = zip(found, candidates.query_index.tolist(), strict=True)
        queries = {track_id: query for track_id, query in pairs if track_id is not None}
        return _AssociatedFrame(number, predictions, index, queries, sorted(self._tracker.tracks))

    def _online_frame(self, frame: _AssociatedFrame) -> StreamedFrame:
        """The frame with what it needs of the past: unrefined without TAR, when only what is seen counts."""
        values = frame.predictions
        for track_id, query in frame.queries.items():
            self._places[track_id] = values.references[frame.index, query].clone()
        self._places = {key: place for key, place in self._places.items() if key in frame.alive}
        ids = frame.alive if self._online is not None else sorted(frame.queries)
        if not ids:
            return StreamedFrame(frame.number, ())
        query_index = torch.tensor([[frame.queries.get(key, -1)] for key in ids], device=values.logits.device)
        embeddings = gather_tracklets(values.embeddings[frame.index][None], query_index)[:, 0]
        if self._online is not None:
            self._online.forget_all_but(frame.alive)
            embeddings = self._online.step(frame.number, ids, embeddings)
        places = torch.stack([self._places[key] for key in ids])
        return self._finish(frame, ids, query_index[:, 0] >= 0, embeddings, places)

    def _window_frames(self, frames: list[_AssociatedFrame]) -> list[StreamedFrame]:
        """Offline: tracks that are seen in the window, refined in all its frames, those before their first too."""
        ids = sorted({track_id for frame in frames for track_id in frame.queries})
        if not ids:
            return [StreamedFrame(frame.number, ()) for frame in frames]
        assert self._layer is not None
        stack = [[getattr(f.predictions, name)[f.index] for f in frames] for name in ("embeddings", "references")]
        embeddings, references = (torch.stack(part) for part in stack)
        rows = [[frame.queries.get(key, -1) for frame in frames] for key in ids]
        query_index = torch.tensor(rows, device=embeddings.device)
        numbers = torch.tensor([frame.number for frame in frames], device=embeddings.device)
        refined = self._layer(gather_tracklets(embeddings, query_index), numbers)
        places = tracklet_references(references, query_index)
        return [
            self._finish(frame, ids, query_index[:, position] >= 0, refined[:, position], places[:, position])
            for position, frame in enumerate(frames)
        ]

    def _finish(
        self, frame: _AssociatedFrame, ids: list[int], seen: Tensor, embeddings: Tensor, places: Tensor
    ) -> StreamedFrame:
        """Class scores and masks of embeddings (N, C) with the heads of the frame; seen: (N,) bool; places: (N, 2)."""
        heads, least = frame.predictions.heads, self.config.association.recovery_score
        scores = class_scores(heads.classify(embeddings), self.num_categories)
        shown = (seen | (scores.amax(-1) > least)).nonzero()[:, 0]
        masks = heads.masks(frame.index, embeddings[shown], places[shown])
        cells = zip(shown.tolist(), seen[shown].tolist(), scores[shown], masks, strict=True)
        return StreamedFrame(frame.number, tuple(StreamedInstance(ids[row], *cell) for row, *cell in cells))
