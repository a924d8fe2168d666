"""From tracked frames to the instances of a video: one category and one score for each track, or the best of all pairs
of track and category.

Shape letters: T frames of the video, K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vislab.rle import RLE
from vislab.stitching.clip import TrackedFrame, TrackedInstance
from vislab.stitching.config import ClipTrackingConfig, StitchingConfig


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
        self._class_scores: dict[int, np.ndarray] = {}  # (K,), as of each track's last frame, where clips are averaged

    def add(self, frames: Iterable[TrackedFrame]) -> None:
        """Frames in order, without gaps."""
        for frame in frames:
            assert frame.frame == self._num_frames, (frame.frame, self._num_frames)
            self._num_frames += 1
            for instance in frame.instances:
                if instance.class_scores is not None:
                    self._class_scores[instance.track_id] = instance.class_scores
                    instance = replace(instance, class_scores=None)
                self._tracks[instance.track_id].append((frame.frame, instance))

    def instances(
        self, config: StitchingConfig | ClipTrackingConfig, *, top_k: int, score_threshold: float = 0.0
    ) -> list[VideoInstance]:
        """The `top_k` tracks of highest score, best first; equal ones in the order in which they started.

        With ClipTrackingConfig a track is an instance of every class, as the queries of a whole video are. Otherwise a
        track's score is the mean over its frames, and must exceed score_threshold and config.min_track_score. Tracks
        whose mask is empty in all frames are dropped after that, as from whole videos; DeVIS writes them as they are.
        """
        if isinstance(config, ClipTrackingConfig):
            return self._best_pairs(top_k, score_threshold)
        scores = {key: np.float32(np.mean([cell.score for _, cell in track])) for key, track in self._tracks.items()}
        least = np.float32(max(score_threshold, config.min_track_score))
        best = sorted((key for key, score in scores.items() if score > least), key=lambda key: (-scores[key], key))
        weighted = config.class_policy == "score_weighted"
        return self._seen((key, _voted(self._tracks[key], weighted), scores[key]) for key in best[:top_k])

    def _best_pairs(self, top_k: int, score_threshold: float) -> list[VideoInstance]:
        """Of all pairs of track and class."""
        pairs = [(key, label, score) for key, row in self._class_scores.items() for label, score in enumerate(row)]
        pairs = [pair for pair in pairs if pair[2] > np.float32(score_threshold)]
        return self._seen(sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:top_k])

    def _seen(self, chosen: Iterable[tuple[int, int, np.float32]]) -> list[VideoInstance]:
        """chosen: track, label and score. Without those whose mask is empty in all frames."""
        instances = (VideoInstance(label, shortest(score), self._segmentations(key)) for key, label, score in chosen)
        return [instance for instance in instances if any(code is not None for code in instance.segmentations)]

    def _segmentations(self, key: int) -> list[RLE | None]:
        segmentations: list[RLE | None] = [None] * self._num_frames
        for frame, cell in self._tracks[key]:
            segmentations[frame] = cell.segmentation
        return segmentations


def _voted(track: Sequence[tuple[int, TrackedInstance]], weighted: bool) -> int:
    return vote([cell.label for _, cell in track], [cell.score if weighted else 1.0 for _, cell in track])


def vote(labels: Sequence[int], weights: Sequence[float]) -> int:
    """The label of largest total weight; the lowest of several (acaelles97/DeVIS src/models/tracker.py:157-178)."""
    return int(np.bincount(labels, weights).argmax())


def shortest(score: np.float32) -> float:
    """The shortest decimal number that gives this float32 again: what a reader wants to see in a results file."""
    return float(str(score))
