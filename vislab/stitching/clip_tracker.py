"""Clip-level instance tracking (IFC section 3.3): clips in, frames with identities out.

In place of the stitching of DeVIS: an instance keeps the scores of all classes, and what overlapping clips say of it is
averaged (sukjunhwang/IFC projects/IFC/ifc/structures/clip_output.py). Memory is bounded by the clip: sums of mask
logits in frames that a later clip may see, and the masks of the clips that hold such a frame; the rest are run-length
codes.

Shape letters: N tracks, M instances of a clip, L those of an earlier one, K classes, T frames, h w size of mask logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vislab.rle import RLE
from vislab.stitching.assignment import assign
from vislab.stitching.clip import ClipInstances, ImageMasks, TrackedFrame, TrackedInstance, finite_logits
from vislab.stitching.config import ClipTrackingConfig

ADDED_TO_UNION = 1e-6  # pixels (clip_output.py, get_siou)


@dataclass
class _Track:
    """Sums over the clips that see one instance. class_sum: (K,) float64. logit_sums: by frame not finished, (h, w),
    with the number of clips in each."""

    class_sum: np.ndarray
    num_clips: int = 0
    logit_sums: dict[int, tuple[Tensor, int]] = field(default_factory=dict)

    def add(self, class_scores: np.ndarray, first: int, logits: Tensor) -> None:
        """One clip. class_scores: (K,). logits: (T, h, w)."""
        self.class_sum = self.class_sum + class_scores
        self.num_clips += 1
        for frame, mask in enumerate(logits, first):
            total, count = self.logit_sums.get(frame, (torch.zeros_like(mask), 0))
            self.logit_sums[frame] = total + mask, count + 1

    def mean_logits(self, frame: int) -> Tensor:
        """(h, w)."""
        total, count = self.logit_sums[frame]
        return total / count


@dataclass(frozen=True)
class _EarlierClip:
    """probabilities: (L, T, h, w). tracks: of each instance its track."""

    first: int
    end: int
    probabilities: Tensor
    tracks: list[int]


class ClipTracker:
    """Takes the clips of one video in order and gives its frames, each as soon as no later clip can change it."""

    def __init__(self, config: ClipTrackingConfig, masks: ImageMasks) -> None:
        self.config, self.masks = config, masks
        self._tracks: dict[int, _Track] = {}  # that hold a frame which is not finished
        self._earlier: list[_EarlierClip] = []  # that hold a frame which is not finished
        self._num_tracks = 0  # started so far
        self._num_finished = 0  # frames
        self._start, self._end = -1, 0  # start of the last clip; end of the video so far, exclusive

    def push(self, clip: ClipInstances) -> list[TrackedFrame]:
        """Adds a clip and returns the frames before it. It starts after the clip before, leaving no gap."""
        assert self._start < clip.first <= self._end < clip.end, (self._start, self._end, clip.first, clip.end)
        finished = self._finish(clip.first)
        logits = finite_logits(clip.mask_logits.float())
        scores = np.nan_to_num(clip.class_scores.astype(np.float64), nan=0.0).clip(0, 1)
        probabilities = logits.sigmoid()
        keys = self._identities(clip.first, probabilities)
        for position, key in enumerate(keys):
            track = self._tracks.setdefault(key, _Track(np.zeros_like(scores[position])))
            track.add(scores[position], clip.first, logits[position])
        self._earlier.append(_EarlierClip(clip.first, clip.end, probabilities, keys))
        self._start, self._end = clip.first, clip.end
        return finished

    def flush(self) -> list[TrackedFrame]:
        """The frames that are left, after the last clip."""
        return self._finish(self._end)

    def _identities(self, first: int, probabilities: Tensor) -> list[int]:
        """The track of each instance of the next clip, an earlier one or a new one. probabilities: (M, T, h, w)."""
        known = list(self._tracks)
        similarity = self._similarity(known, first, probabilities)
        linked = np.where(similarity > self.config.min_iou, similarity, 0.0)  # the others weigh as much as no link
        found = {column: known[row] for row, column in assign(-linked) if linked[row, column] > 0}
        keys = []
        for position in range(len(probabilities)):
            if position not in found:
                found[position] = self._num_tracks
                self._num_tracks += 1
            keys.append(found[position])
        return keys

    def _similarity(self, known: list[int], first: int, probabilities: Tensor) -> np.ndarray:
        """Soft IoU of tracks and new instances, (N, M): over the frames shared with each earlier clip that sees the
        track, averaged over these clips."""
        total, count = np.zeros((len(known), len(probabilities))), np.zeros((len(known), 1))
        row = {key: index for index, key in enumerate(known)}
        for clip in self._earlier:
            shared = clip.end - first
            rows = [row[key] for key in clip.tracks]  # all different: a clip has a track once
            total[rows] += soft_iou(clip.probabilities[:, -shared:], probabilities[:, :shared])
            count[rows] += 1
        return total / count

    def _finish(self, stop: int) -> list[TrackedFrame]:
        """Results up to frame `stop`, exclusive. Forgets what no clip from there on can be compared with."""
        frames = [self._tracked_frame(frame) for frame in range(self._num_finished, stop)]
        self._num_finished = stop
        self._earlier = [clip for clip in self._earlier if clip.end > stop]
        for track in self._tracks.values():
            track.logit_sums = {frame: entry for frame, entry in track.logit_sums.items() if frame >= stop}
        self._tracks = {key: track for key, track in self._tracks.items() if track.logit_sums}
        return frames

    def _tracked_frame(self, frame: int) -> TrackedFrame:
        present = {key: track for key, track in sorted(self._tracks.items()) if frame in track.logit_sums}
        if not present:
            return TrackedFrame(frame, ())
        codes = self.masks.codes(torch.stack([track.mean_logits(frame) for track in present.values()]))
        instances = zip(present.items(), codes, strict=True)
        return TrackedFrame(frame, tuple(_tracked_instance(key, track, code) for (key, track), code in instances))


def _tracked_instance(key: int, track: _Track, code: RLE | None) -> TrackedInstance:
    scores = (track.class_sum / track.num_clips).astype(np.float32)
    label = int(scores.argmax())
    return TrackedInstance(key, label, float(scores[label]), code, scores)


def soft_iou(first: Tensor, second: Tensor) -> np.ndarray:
    """sum(pq) / sum(p + q - pq) over all pixels of all frames; (L, T, h, w) and (M, T, h, w) in [0, 1] to (L, M)."""
    p, q = first.flatten(1), second.flatten(1)
    shared = (p @ q.T).double()
    union = p.sum(1).double()[:, None] + q.sum(1).double() - shared
    return (shared / (union + ADDED_TO_UNION)).cpu().numpy()
