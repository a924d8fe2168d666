"""Multi-cue clip tracking (DeVIS section 3.5): clips in, frames with identities out.

Memory is bounded by the clip: of frames that a later clip may share, mask logits are kept at the model's mask stride,
so that probabilities at image size can be had again exactly; a finished frame becomes run-length codes and leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vislab.rle import RLE
from vislab.stitching.assignment import assign, assign_within
from vislab.stitching.clip import (
    ClipDetections,
    ImageMasks,
    Observation,
    TrackedFrame,
    TrackedInstance,
    finite_logits,
)
from vislab.stitching.config import ClipInferenceConfig, StitchingConfig
from vislab.stitching.cues import Compared, Row, distinct_masks, matching_cost

Track = dict[int, Observation]  # by frame


class ClipStitcher:
    """Takes the clips of one video in order and gives its frames, each as soon as no later clip can change it."""

    def __init__(self, config: ClipInferenceConfig, masks: ImageMasks) -> None:
        assert isinstance(config.stitching, StitchingConfig)
        self.config, self.stitching, self.masks = config, config.stitching, masks
        self._tracks: dict[int, Track] = {}  # that hold a frame which is not finished, or the last one
        self._ended: set[int] = set()  # those of them that no clip continues any more
        self._num_tracks = 0  # started so far
        self._num_finished = 0  # frames
        self._start, self._end = -1, 0  # start of the last clip; end of the video so far, exclusive

    def push(self, clip: ClipDetections) -> list[TrackedFrame]:
        """Adds a clip and returns the frames before it. It starts after the clip before, leaving no gap."""
        assert self._start < clip.first <= self._end < clip.first + clip.length, (self._start, self._end, clip.frames)
        finished = self._finish(clip.first)
        detections = observed(clip)
        matches = self._matches(detections, clip.first)
        if self.stitching.birth == "per_class":
            self._ended |= self._tracks.keys() - set(matches.values())
        for position, detection in enumerate(detections):
            if position in matches:
                extend(self._tracks[matches[position]], detection)
            elif self._may_start(detection):
                self._tracks[self._num_tracks] = detection
                self._num_tracks += 1
        self._start, self._end = clip.first, clip.first + clip.length
        return finished

    def flush(self) -> list[TrackedFrame]:
        """The frames that are left, after the last clip."""
        return self._finish(self._end)

    def _matches(self, detections: Sequence[Track], first: int) -> dict[int, int]:
        """Which track each detection continues: position of the detection -> track."""
        pairs = self._compared_frames(first)
        old = {key: [track.get(frame) for frame, _ in pairs] for key, track in self._tracks.items()}
        new = {position: [track[frame] for _, frame in pairs] for position, track in enumerate(detections)}
        old = {key: row for key, row in old.items() if key not in self._ended and self._competes(row)}
        new = {position: row for position, row in new.items() if self._competes(row)}
        if not old or not new:
            return {}
        tracks, candidates = Compared.of(list(old.values())), Compared.of(list(new.values()))
        cost = matching_cost(tracks, candidates, self.stitching, self.masks)
        max_cost = self.stitching.max_cost
        if self.stitching.birth == "per_class":  # tracks have one category, wherever they have any
            found = assign_within(cost, tracks.labels.max(1), candidates.labels.max(1), max_cost)
        else:
            found = assign(cost, max_cost)
        keys, positions = list(old), list(new)
        return {positions[column]: keys[row] for row, column in found}

    def _compared_frames(self, first: int) -> list[tuple[int, int]]:
        """Pairs of a frame of the tracks and one of the clip: those shared or, without any, the two at the seam."""
        shared = range(first, self._end)
        regular = self.config.clip_length - self.config.clip_stride  # the last two clips may share more
        if regular and self.stitching.cue_frames == "stride":
            shared = shared[-regular:]
        return [(frame, frame) for frame in shared] or [(self._end - 1, first)]

    def _competes(self, row: Row) -> bool:
        """Whether there is anything of an instance in the frames compared that a cue could judge."""
        return any(cell is not None and self._counts(cell) for cell in row)

    def _may_start(self, detection: Track) -> bool:
        late = self.stitching.birth == "none" and self._end > 0
        return not late and any(self._counts(cell) for cell in detection.values())

    def _counts(self, cell: Observation) -> bool:
        """The release drops frames of low score from finished tracks only: they still take part in its assignments."""
        return self.stitching.birth != "paper" or cell.score >= self.stitching.min_frame_score

    def _finish(self, stop: int) -> list[TrackedFrame]:
        """Results up to frame `stop`, exclusive. Forgets what no clip from there on can be compared with."""
        frames = [self._tracked_frame(frame) for frame in range(self._num_finished, stop)]
        self._num_finished = stop
        needed = min(stop, self._end - 1)  # a clip that shares no frame is compared with the last one
        tracks = {key: {f: cell for f, cell in track.items() if f >= needed} for key, track in self._tracks.items()}
        self._tracks = {key: track for key, track in tracks.items() if track}
        self._ended &= self._tracks.keys()
        return frames

    def _tracked_frame(self, frame: int) -> TrackedFrame:
        least = self.stitching.min_frame_score
        cells = {key: track[frame] for key, track in self._tracks.items() if frame in track}
        cells = {key: cell for key, cell in sorted(cells.items()) if cell.score >= least}
        codes = self._codes(list(cells.values()))
        instances = zip(cells.items(), codes, strict=True)
        return TrackedFrame(frame, tuple(TrackedInstance(k, c.label, c.score, code) for (k, c), code in instances))

    def _codes(self, cells: Sequence[Observation]) -> list[RLE | None]:
        """Codes of their masks, None for empty ones."""
        stack, index = distinct_masks(cells)
        codes = [] if stack is None else self.masks.codes(stack)
        return [codes[i] for i in index.tolist()]


def observed(clip: ClipDetections) -> list[Track]:
    """The detections of a clip by frame, in an order that is their own: by score, category and box, however listed."""
    scores = np.nan_to_num(clip.scores, nan=0.0).clip(0, 1)
    logits = finite_logits(clip.mask_logits)
    # Each a tensor of its own: a frame that stays does not keep the clip's other frames in memory.
    masks = [[frame.clone() for frame in query] for query in logits]
    boxes = clip.boxes.astype(np.float64)
    order = np.lexsort((*boxes.mean(1).T, clip.labels, -scores.mean(1)))
    return [
        {
            frame: Observation(int(clip.labels[i]), float(scores[i, t]), boxes[i, t], masks[clip.mask_index[i]][t])
            for t, frame in enumerate(clip.frames)
        }
        for i in order
    ]


def extend(track: Track, detection: Track) -> None:
    """Adds the frames of a detection; where both have one, the higher score stays, the earlier one if equal
    (acaelles97/DeVIS src/models/tracker.py:103-124)."""
    for frame, cell in detection.items():
        if frame not in track or cell.score > track[frame].score:
            track[frame] = cell
