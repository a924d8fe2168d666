"""Which detected tracks of a video to show or to compare: models score on scales of their own, no threshold suits all.

One model scores all ten outputs of a video above 0.3, another none of them. What can be compared is a fixed number of
tracks: as many as the video has labelled objects, which is what a perfect model would need.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from vislab.metrics.inputs import GroundTruth, Instance

__all__ = ["best_tracks", "distinct_tracks"]


def best_tracks(truth: GroundTruth, results: Iterable[Instance]) -> list[Instance]:
    """Of each video as many of the distinct tracks as it has labelled objects, those of highest score; crowds are none.

    By falling score.
    """
    places = Counter(own.video_id for own in truth.instances if not own.is_crowd)
    shown: defaultdict[int, int] = defaultdict(int)
    kept = []
    for found in distinct_tracks(results):
        if shown[found.video_id] < places[found.video_id]:
            shown[found.video_id] += 1
            kept.append(found)
    return kept


def distinct_tracks(results: Iterable[Instance]) -> list[Instance]:
    """By falling score, then category; of tracks with the very same masks, such as one query under several categories,
    the first."""
    kept: dict[tuple[int, bytes, bytes], Instance] = {}
    for found in sorted(results, key=lambda each: (-each.score, each.category_id)):
        kept.setdefault((found.video_id, found.counts, found.ends.tobytes()), found)
    return list(kept.values())
