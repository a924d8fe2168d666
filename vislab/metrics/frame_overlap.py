"""What tracking metrics see of a video: how all labelled and all detected tracks overlap, frame by frame.

Overlaps come from run-length codes, all frames of a video in one array; no mask is decoded.

Rules, shared by MOT consistency and HOTA:

- A detection takes part if its score is at least the threshold. The IFR paper (section 4.4) names none, but its Table 3
  excludes that all of a model's ten outputs per video were counted: IDR / IDP is the number of detected boxes over that
  of true ones, and that is 1.36 for its baseline and 0.94 for its own model, with fewer than two objects a video. The
  default of 0.3 is a choice of this package, for scores of sigmoid classifiers trained with the focal loss. Scores of
  different models mean different things: before comparing them, set the threshold of each on other videos.
- Classes are ignored unless `class_agnostic` is off, as that paper gives boxes and identities alone to its tool. Then
  detections with the very same masks are one track, with the best of their scores: models give a query under several
  categories, and where categories do not count all its copies but one would be errors. With it off, each (video,
  category) is a sequence of its own, and a video sums over its sequences, as BDD100K's scalabel and TrackEval's
  detection-averaged classes do.
- A frame in which a track has no mask, or an empty one, is a frame in which it is absent: neither object nor error.
- A crowd is no object but a region, for every category: in a frame where more than half of a detection lies in one
  crowd, and the detection has no partner in an assignment of that frame alone at IoU 0.5, the detection is left out
  (scalabel, eval/mots.py; KITTI-MOTS).
- The assignment of these metrics breaks ties by the order of the tracks. That order is set here: labelled ones by
  category, detected ones by falling score and category, each then by their masks. So the order and the ids of the input
  change nothing.

Shape letters: T frames, M labelled tracks, N detected tracks, C crowds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from motmetrics.lap import linear_sum_assignment
from pycocotools import mask as coco_mask

from vislab import native_rle
from vislab.errors import UserError
from vislab.metrics.best_tracks import distinct_tracks
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.video_iou import frame_intersections, packed

Overlap = Literal["box", "mask"]
Key = TypeVar("Key", bound=Hashable)
SCORE_THRESHOLD = 0.3
MATCH_IOU = 0.5
DEFAULT_RULES = {"score_threshold": SCORE_THRESHOLD, "each_track_once": True}  # noted with counts that are kept
_CROWD_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Scene:
    """Tracks of one video, or of one category in it."""

    video: int  # index into GroundTruth.videos
    ious: np.ndarray  # (T, M, N) float64 in [0, 1]; 0 where one of the two is absent
    truth_present: np.ndarray  # (T, M) bool
    found_present: np.ndarray  # (T, N) bool


def tracking_scenes(
    truth: GroundTruth,
    detections: Sequence[Instance],
    *,
    overlap: Overlap,
    score_threshold: float = SCORE_THRESHOLD,
    class_agnostic: bool = True,
) -> Iterator[Scene]:
    """Scenes that have any track, one at a time; the rules stand at the top of this file.

    Args:
        overlap: IoU of the masks, or of the tight boxes around them.
        score_threshold: least score of a detection that counts.
        class_agnostic: one scene per video, each track once; otherwise one per video and category.

    Raises:
        UserError: unknown overlap, or a threshold that is not a number.
    """
    if overlap not in get_args(Overlap):
        raise UserError(f"overlap is {overlap!r}, expected one of {', '.join(get_args(Overlap))}")
    if np.isnan(score_threshold):
        raise UserError("score_threshold is not a number")
    video_index = {identifier: index for index, identifier in enumerate(truth.videos)}

    def key(instance: Instance) -> tuple[int, int]:
        return video_index[instance.video_id], 0 if class_agnostic else instance.category_id

    if class_agnostic:
        detections = distinct_tracks(detections)
    crowds = _grouped((video_index[i.video_id], i) for i in truth.instances if i.is_crowd)
    labelled = _grouped((key(i), i) for i in truth.instances if not i.is_crowd and i.mask_areas.any())
    found = _grouped((key(d), d) for d in detections if d.score >= score_threshold and d.mask_areas.any())
    for video, category in sorted(labelled.keys() | found.keys()):
        yield _scene(
            video,
            sorted(labelled[video, category], key=lambda i: (i.category_id, _content(i))),
            sorted(found[video, category], key=lambda d: (-d.score, d.category_id, _content(d))),
            crowds[video],
            overlap,
        )


def frame_ious(truths: Sequence[Instance], detections: Sequence[Instance], overlap: Overlap) -> np.ndarray:
    """IoU of every pair in every frame: (T, M, N) float64 in [0, 1], 0 where one of the two is absent.

    T is the length of the longest track; a shorter one is absent after its end.
    """
    if not truths or not detections:
        length = max((instance.length for instance in (*truths, *detections)), default=0)
        return np.zeros((length, len(truths), len(detections)))
    shared, truth_sizes, sizes = _shared_and_sizes(truths, detections, overlap)
    unions = truth_sizes[:, :, None] + sizes[:, None, :] - shared
    return np.divide(shared, unions, out=np.zeros(shared.shape), where=unions > 0)


def tight_boxes(instances: Sequence[Instance], length: int) -> np.ndarray:
    """Tight boxes (left, top, right, bottom), right and bottom exclusive: (length, N, 4) int64 pixels, 0 if absent."""
    library = native_rle.kernel_for(sum(len(instance.counts) for instance in instances))
    if library is None or not instances:
        return _plain_boxes(instances, length)
    heights = [instance.size[0] for instance in instances]
    return native_rle.boxes(library, packed(instances), heights, length).transpose(1, 0, 2)


def _plain_boxes(instances: Sequence[Instance], length: int) -> np.ndarray:
    boxes = np.zeros((length, len(instances), 4), np.int64)
    frames, owners = np.nonzero(_sizes(instances, length))
    if len(frames):
        tracks = [instance.track for instance in instances]
        codes = [tracks[n][frame] for frame, n in zip(frames.tolist(), owners.tolist(), strict=True)]
        boxes[frames, owners] = coco_mask.toBbox(codes)
        boxes[..., 2:] += boxes[..., :2]
    return boxes


def _scene(
    video: int, truths: list[Instance], found: list[Instance], crowds: list[Instance], overlap: Overlap
) -> Scene:
    ious = frame_ious(truths, found, overlap)
    truth_present, found_present = (_sizes(side, len(ious)) > 0 for side in (truths, found))
    if crowds and found:
        shared, _, sizes = _shared_and_sizes(crowds, found, overlap)
        in_crowd = np.any(shared > _CROWD_SHARE * sizes[:, None, :], axis=1)[: len(ious)]
        for frame in np.flatnonzero(in_crowd.any(1)):
            _, matched = assign(ious[frame], ious[frame] >= MATCH_IOU)
            in_crowd[frame, matched] = False
            found_present[frame] &= ~in_crowd[frame]
        ious *= found_present[:, None, :]
    return Scene(video, ious, truth_present, found_present)


def assign(ious: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assignment of one frame: as many allowed pairs as possible, of these the least sum of 1 - IoU.

    Solved by motmetrics, so that ties fall as they do there.

    Args:
        ious: (M, N) float64; allowed: (M, N) bool.

    Returns:
        Row and column of each pair.
    """
    return linear_sum_assignment(np.where(allowed, 1 - ious, np.nan), solver="scipy")


def _shared_and_sizes(
    truths: Sequence[Instance], detections: Sequence[Instance], overlap: Overlap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that each pair shares (T, M, N), and of each track (T, M) and (T, N), all int64."""
    length = max((instance.length for side in (truths, detections) for instance in side), default=0)
    if overlap == "mask":
        shared = np.zeros((length, len(truths), len(detections)), np.int64)
        intersections = frame_intersections(truths, detections)
        shared[: len(intersections)] = intersections
        return shared, _sizes(truths, length), _sizes(detections, length)
    ours, theirs = tight_boxes(truths, length), tight_boxes(detections, length)
    sides = []
    for low, high in ((0, 2), (1, 3)):
        start = np.maximum(ours[:, :, None, low], theirs[:, None, :, low])
        stop = np.minimum(ours[:, :, None, high], theirs[:, None, :, high])
        sides.append(np.maximum(stop - start, 0))
    areas = [(boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) for boxes in (ours, theirs)]
    return sides[0] * sides[1], areas[0], areas[1]


def _sizes(instances: Sequence[Instance], length: int) -> np.ndarray:
    """Pixels of each mask, 0 where absent: (length, N) int64."""
    sizes = np.zeros((len(instances), length), np.int64)
    for row, instance in zip(sizes, instances, strict=True):
        row[: len(instance.mask_areas)] = instance.mask_areas[:length]
    return sizes.T


def _content(instance: Instance) -> tuple[bytes, list[int]]:
    """Something to sort by that depends on nothing but the masks."""
    return instance.counts, instance.ends.tolist()


def _grouped(pairs: Iterable[tuple[Key, Instance]]) -> defaultdict[Key, list[Instance]]:
    groups: defaultdict[Key, list[Instance]] = defaultdict(list)
    for key, instance in pairs:
        groups[key].append(instance)
    return groups
