"""From streamed frames to the instances of a video (wjf5203/VNext projects/IDOL/idol/idol.py:403-470).

Shape letters: T frames of the video, n instances of a frame, K classes, h w mask size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vislab.rle import RLE
from vislab.stitching.association import AssociationConfig
from vislab.stitching.tracks import VideoInstance, shortest
from vislab.stitching.video_stream import StreamedFrame

FIRST_CHECKED_FRAME = 9  # short tracks are removed from here on


@dataclass
class _Track:
    """scores: (K,) sum over the frames in which it was seen. codes: of frames with a mask."""

    scores: Tensor
    last_seen: int = -1
    num_seen: int = 0
    codes: dict[int, RLE] = field(default_factory=dict)


class AssociatedTracks:
    """Collects the frames of a video. Holds codes and scores, no masks.

    Args:
        encode: mask logits (n, h, w) to n run-length codes at the size of the image, None for empty masks.
    """

    def __init__(self, config: AssociationConfig, encode: Callable[[Tensor], list[RLE | None]]) -> None:
        self.config, self._encode = config, encode
        self._tracks: dict[int, _Track] = {}
        self._num_frames = 0

    def add(self, frame: StreamedFrame) -> None:
        """Frames in order, without gaps."""
        assert frame.frame == self._num_frames, (frame.frame, self._num_frames)
        self._num_frames += 1
        if frame.instances:
            codes = self._encode(torch.stack([instance.mask_logits for instance in frame.instances]))
            for instance, code in zip(frame.instances, codes, strict=True):
                track = self._tracks.setdefault(instance.track_id, _Track(torch.zeros(len(instance.scores))))
                if code is not None:
                    track.codes[frame.frame] = code
                if instance.seen:
                    track.scores = track.scores + instance.scores.float().cpu()
                    track.num_seen += 1
                    track.last_seen = frame.frame
        if frame.frame >= FIRST_CHECKED_FRAME:
            self._tracks = {key: track for key, track in self._tracks.items() if not self._is_noise(track, frame.frame)}

    def _is_noise(self, track: _Track, frame: int) -> bool:
        # offline a track may have recovered masks before it is first seen
        return 0 < track.num_seen < self.config.min_frames and frame - track.last_seen >= 2

    def instances(self, *, top_k: int, score_threshold: float = 0.0) -> list[VideoInstance]:
        """The `top_k` best pairs of track and class, best first; equal ones in the order of tracks, then of classes.

        The score of a class is its mean over the frames in which the track was seen; it must exceed score_threshold and
        config.output_score. Tracks whose masks are all empty are left out.
        """
        least = max(score_threshold, self.config.output_score)
        found = []
        for key, track in sorted(self._tracks.items()):
            if not track.codes or not track.num_seen:
                continue
            means = (track.scores / track.num_seen).numpy()
            found += [(-means[label], key, int(label)) for label in np.flatnonzero(means > least)]
        return [
            VideoInstance(label, shortest(np.float32(-negative)), self._segmentations(self._tracks[key]))
            for negative, key, label in sorted(found)[:top_k]
        ]

    def _segmentations(self, track: _Track) -> list[RLE | None]:
        return [track.codes.get(frame) for frame in range(self._num_frames)]
