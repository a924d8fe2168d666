"""Consistency of identities at every score threshold, told by how many tracks are left there.

Scores of different models mean different things, so that one threshold for all keeps many tracks of one model and few
of another. What can be compared is the same number of tracks, or each model at its own best threshold, found on other
videos. A track counts once, as `frame_overlap` says.

Shape letters: V videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from vislab.errors import UserError
from vislab.metrics.best_tracks import distinct_tracks
from vislab.metrics.frame_overlap import Overlap
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.mot import MotCounts, mot_instances

__all__ = ["ScoreLevels", "most_tracks", "score_levels", "tracks_per_object"]


@dataclass(frozen=True, eq=False)
class ScoreLevels:
    """ratios: distinct tracks that count per labelled object, of all videos together. counts: what is measured there.

    One or more, as many of both.
    """

    ratios: tuple[float, ...]
    counts: tuple[MotCounts, ...]

    def best_on_others(self, statistic: str = "IDF1") -> MotCounts:
        """Every second video at the level that is best for the rest of them, and the rest likewise.

        Args:
            statistic: of `mot.STATISTICS`, more is better; of equal levels, and where it is undefined at all of them,
                the one of fewest tracks.

        Raises:
            UserError: a single video, which has no others.
        """
        ids = self.counts[0].video_ids
        if len(ids) < 2:
            raise UserError("a score threshold is set on other videos: expected 2 videos or more, found 1")
        even = np.arange(len(ids)) % 2 == 0
        chosen = [self.counts[self._best(~half, statistic)] for half in (even, ~even)]
        names = [field.name for field in fields(MotCounts)[1:]]
        return MotCounts(ids, **{name: np.where(even, *(getattr(each, name) for each in chosen)) for name in names})

    def _best(self, videos: np.ndarray, statistic: str) -> int:
        """Position of the level; videos: (V,) bool, those that count."""
        weights = videos.astype(np.int64)[None]
        values = [float(each.summaries(weights, [statistic])[statistic][0]) for each in self.counts]
        return int(np.argmax(np.nan_to_num(values, nan=-np.inf)))


def score_levels(
    truth: GroundTruth, detections: Sequence[Instance], ratios: Sequence[float], overlap: Overlap = "box"
) -> ScoreLevels:
    """MOT counts of the best tracks, as many of them as labelled objects times each ratio; categories are ignored.

    Args:
        ratios: positive, at most `most_tracks`. Tracks that score as much as the last one that counts do so as well.
        overlap: IoU of the tight boxes of the masks, or of the masks.
    """
    tracks = [each for each in distinct_tracks(detections) if each.mask_areas.any()]  # by falling score
    objects = _objects(truth)
    places = [max(1, round(ratio * objects)) - 1 for ratio in ratios]
    return ScoreLevels(
        tuple(ratios),
        tuple(mot_instances(truth, tracks, overlap=overlap, score_threshold=tracks[at].score) for at in places),
    )


def most_tracks(truth: GroundTruth, detections: Sequence[Instance]) -> float:
    """Distinct tracks per labelled object if all of them count."""
    return tracks_per_object(truth, distinct_tracks(detections))


def tracks_per_object(truth: GroundTruth, detections: Sequence[Instance]) -> float:
    """Those with any mask. Raises UserError without labelled objects."""
    return sum(bool(each.mask_areas.any()) for each in detections) / _objects(truth)


def _objects(truth: GroundTruth) -> int:
    found = sum(not own.is_crowd and bool(own.mask_areas.any()) for own in truth.instances)
    if not found:
        raise UserError("these videos have no labelled objects, so that nothing can be tracked in them")
    return found
