"""From tracked frames to the instances of a video: one category and one score for each track.

Shape letters: T frames of the video.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vislab.rle import RLE
from vislab.stitching.clip import TrackedFrame, TrackedInstance
from vislab.stitching.config import StitchingConfig


@dataclass(frozen=True)
class VideoInstance:
    """One predicted instance. label: 0..K-1. score: in (0, 1). segmentations: T run-length codes, None where empty."""

    label: int
    score: float
    segmentations: list[RLE | None]


class VideoTracks:
    """Collects the frames of a video. Holds codes, labels and scores, no masks."""

    def __init__(self) -> None:
        self._num_frames = 0
        self._tracks: dict[int, list[tuple[int, TrackedInstance]]] = defaultdict(list)  # with the frame

    def add(self, frames: Iterable[TrackedFrame]) -> None:
        """Frames in order, without gaps."""
        for frame in frames:
            assert frame.frame == self._num_frames, (frame.frame, self._num_frames)
            self._num_frames += 1
            for instance in frame.instances:
                self._tracks[instance.track_id].append((frame.frame, instance))

    def instances(self, config: StitchingConfig, *, top_k: int, score_threshold: float = 0.0) -> list[VideoInstance]:
        """The `top_k` tracks of highest score, best first; equal ones in the order in which they started.

        A track's score is the mean over its frames, and must exceed score_threshold and config.min_track_score. Tracks
        whose mask is empty in all frames are dropped after that, as from whole videos; DeVIS writes them as they are.
        """
        scores = {key: np.float32(np.mean([cell.score for _, cell in track])) for key, track in self._tracks.items()}
        least = np.float32(max(score_threshold, config.min_track_score))
        best = sorted((key for key, score in scores.items() if score > least), key=lambda key: (-scores[key], key))
        instances = [self._instance(self._tracks[key], scores[key], config) for key in best[:top_k]]
        return [instance for instance in instances if any(code is not None for code in instance.segmentations)]

    def _instance(
        self, track: Sequence[tuple[int, TrackedInstance]], score: np.float32, config: StitchingConfig
    ) -> VideoInstance:
        segmentations: list[RLE | None] = [None] * self._num_frames
        for frame, cell in track:
            segmentations[frame] = cell.segmentation
        weighted = config.class_policy == "score_weighted"
        label = vote([cell.label for _, cell in track], [cell.score if weighted else 1.0 for _, cell in track])
        return VideoInstance(label, shortest(score), segmentations)


def vote(labels: Sequence[int], weights: Sequence[float]) -> int:
    """The label of largest total weight; the lowest of several (acaelles97/DeVIS src/models/tracker.py:157-178)."""
    return int(np.bincount(labels, weights).argmax())


def shortest(score: np.float32) -> float:
    """The shortest decimal number that gives this float32 again: what a reader wants to see in a results file."""
    return float(str(score))
