"""Instances as they are drawn: labelled and predicted ones of one video, in colours that agree.

Shape letters: N instances, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vislab import rle
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.video_iou import video_iou
from vislab.report.videos.overlays import CROWD, RGB, Overlay, identity_colour

__all__ = ["SAME_OBJECT", "Track", "predicted_tracks", "true_tracks"]

SAME_OBJECT = 0.1  # least video IoU at which a prediction is drawn in the colour of a labelled instance


@dataclass(frozen=True)
class Track:
    """One instance. masks: T run-length codes that vislab.rle has checked, None where the instance is absent."""

    colour: RGB
    label: str
    masks: list[rle.RLE | None]

    def overlay(self, frame: int) -> Overlay | None:
        """The instance in one frame, or None where it is absent."""
        mask = self.masks[frame]
        return None if mask is None else Overlay(rle.decode_checked(mask), self.colour, self.label)


def true_tracks(truth: GroundTruth, video_id: int) -> list[Track]:
    """The labelled instances of a video, each with a colour of its own; crowds are grey."""
    return [
        Track(
            CROWD if instance.is_crowd else identity_colour(identity),
            truth.categories[instance.category_id] + (" (crowd)" if instance.is_crowd else ""),
            instance.track,
        )
        for identity, instance in enumerate(_of_video(truth.instances, video_id))
    ]


def predicted_tracks(truth: GroundTruth, results: Sequence[Instance], video_id: int, min_score: float) -> list[Track]:
    """The predictions of a video that score `min_score` or more, best first, labelled with category and score.

    Each has the colour of the labelled instance that it overlaps best over the whole video; one that overlaps none by
    `SAME_OBJECT` has a colour that no labelled instance has.
    """
    kept = [instance for instance in _of_video(results, video_id) if instance.score >= min_score]
    kept.sort(key=lambda instance: -instance.score)
    labelled, colours = _of_video(truth.instances, video_id), [track.colour for track in true_tracks(truth, video_id)]
    overlaps = video_iou(kept, labelled)
    tracks = []
    unknown = len(labelled)
    for instance, ious in zip(kept, overlaps, strict=True):
        if labelled and ious.max() >= SAME_OBJECT:
            colour = colours[int(ious.argmax())]
        else:
            colour, unknown = identity_colour(unknown), unknown + 1
        label = f"{truth.categories[instance.category_id]} {instance.score:.2f}"
        tracks.append(Track(colour, label, instance.track))
    return tracks


def _of_video(instances: Sequence[Instance], video_id: int) -> list[Instance]:
    return [instance for instance in instances if instance.video_id == video_id]
