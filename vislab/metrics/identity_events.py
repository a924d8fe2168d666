"""Where identities go wrong: changes, switches, losses and merges, each with its object and frame.

The kinds are those of the IFR paper's Figure 1 (You et al., "Consistent Video Instance Segmentation with Inter-Frame
Recurrent Attention"), which names them without defining them. Here an object's identity is the detected track that
`mot.frame_partners` matches to it, so that changes and switches together are that metric's identity switches (IDs), and
losses and merges together are the gaps between an object's matches, the last one that is never closed included.

Shape letters: T frames, M labelled tracks, N detected tracks.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from vislab.metrics.best_tracks import distinct_tracks
from vislab.metrics.frame_overlap import Overlap, Scene, tracking_scenes
from vislab.metrics.inputs import GroundTruth, Instance
from vislab.metrics.mot import frame_partners
from vislab.metrics.video_iou import frame_intersections

__all__ = ["FATES", "KINDS", "Fate", "IdentityEvent", "Kind", "VideoIdentities", "count_fates", "find_identities"]

Kind = Literal["change", "switch", "loss", "merge"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Fate = Literal["kept", "failed", "not found"]
FATES: tuple[Fate, ...] = get_args(Fate)
_COVERED = 0.5  # share of an object's mask from which another object's detection has swallowed it


@dataclass(frozen=True)
class IdentityEvent:
    """What befalls one object.

    change: it is matched to a track that is no other object's last one. switch: to one that is. loss: it is visible but
    matched to nothing. merge: so, and a detection matched to another object covers half of its mask or more.

    owner: the object, a column of `VideoIdentities.partners`. before: the last frame in which it was matched. frame:
    the first in which it is matched anew, lost or merged. other: the other object of a switch or a merge, else None.
    """

    kind: Kind
    owner: int
    before: int
    frame: int
    other: int | None = None


@dataclass(frozen=True, eq=False)
class VideoIdentities:
    """Labelled and detected tracks of one video, and who was matched to whom.

    truths: (M,), the same order for any detections. found: (N,). partners: (T, M) int, index into `found`, -1 for none.
    present: (T, M) bool, whether the object is visible. events: by frame, then by object.
    """

    truths: tuple[Instance, ...]
    found: tuple[Instance, ...]
    partners: np.ndarray
    present: np.ndarray
    events: tuple[IdentityEvent, ...]

    def fate(self, event: IdentityEvent) -> Fate:
        """How these detections do where others had the event: from its `before` to its `frame`, the object is `kept` if
        it has one partner wherever it is visible, `not found` if it has none at all, else they `failed` too."""
        span = slice(event.before, event.frame + 1)
        partners = self.partners[span, event.owner][self.present[span, event.owner]]
        if (partners < 0).all():
            return "not found"
        return "kept" if (partners == partners[0]).all() else "failed"


def find_identities(
    truth: GroundTruth, detections: Sequence[Instance], overlap: Overlap, score_threshold: float = -math.inf
) -> dict[int, VideoIdentities]:
    """Of every video that has labelled objects or detections, by its id.

    Args:
        overlap: what is matched at IoU 0.5: "box" is the rule of the paper's Table 3, "mask" what one sees.
        score_threshold: least score of a detection that counts.
    """
    ids = list(truth.videos)
    labelled, found = defaultdict(list), defaultdict(list)
    for own in truth.instances:
        if not own.is_crowd and own.mask_areas.any():
            labelled[own.video_id].append(own)
    for detection in distinct_tracks(detections):
        if detection.score >= score_threshold and detection.mask_areas.any():
            found[detection.video_id].append(detection)
    scenes = tracking_scenes(truth, detections, overlap=overlap, score_threshold=score_threshold)
    return {
        ids[scene.video]: _identities(scene, labelled[ids[scene.video]], found[ids[scene.video]]) for scene in scenes
    }


def count_fates(
    own: Mapping[int, VideoIdentities], others: Mapping[int, VideoIdentities]
) -> Counter[tuple[Kind, Fate]]:
    """How many events of each kind the first have, by what becomes of the object with the second on the same videos."""
    return Counter(
        (event.kind, others[video_id].fate(event)) for video_id, video in own.items() for event in video.events
    )


def _identities(scene: Scene, labelled: list[Instance], found: list[Instance]) -> VideoIdentities:
    """The tracks are put into the scene's order, which the rules of `frame_overlap` tell."""
    labelled = sorted(labelled, key=lambda own: (own.category_id, own.counts, own.ends.tolist()))
    found = sorted(found, key=lambda own: (-own.score, own.category_id, own.counts, own.ends.tolist()))
    partners = frame_partners(scene)
    assert scene.ious.shape[1:] == (len(labelled), len(found)), "the tracks of the scene"
    events = [*_new_partners(partners), *_gaps(partners, scene.truth_present, _covered(labelled, found, len(partners)))]
    events.sort(key=lambda event: (event.frame, event.owner))
    return VideoIdentities(tuple(labelled), tuple(found), partners, scene.truth_present, tuple(events))


def _new_partners(partners: np.ndarray) -> Iterator[IdentityEvent]:
    """Changes and switches."""
    last: dict[int, tuple[int, int]] = {}  # object -> its last partner and the frame
    for frame, row in enumerate(partners.tolist()):
        held = {partner: owner for owner, (partner, _) in sorted(last.items(), key=lambda item: item[1][1])}
        for owner, partner in enumerate(row):
            if partner >= 0 and owner in last and last[owner][0] != partner:
                other = held.get(partner)
                yield IdentityEvent("change" if other is None else "switch", owner, last[owner][1], frame, other)
        last |= {owner: (partner, frame) for owner, partner in enumerate(row) if partner >= 0}


def _gaps(partners: np.ndarray, present: np.ndarray, covered: np.ndarray) -> Iterator[IdentityEvent]:
    """Losses and merges, one for each gap: a merge if it is one in any frame. covered: (T, N, M) bool."""
    for owner in range(partners.shape[1]):
        visible = np.flatnonzero(present[:, owner])
        matched = partners[visible, owner] >= 0
        starts = np.flatnonzero(matched[:-1] & ~matched[1:]) + 1
        for start in starts.tolist():
            end = start + int(np.argmax(np.append(matched[start:], True)))
            frames = visible[start:end].tolist()
            before = int(visible[start - 1])
            yield _merge(partners, covered, owner, before, frames) or IdentityEvent("loss", owner, before, frames[0])


def _merge(
    partners: np.ndarray, covered: np.ndarray, owner: int, before: int, frames: Sequence[int]
) -> IdentityEvent | None:
    for frame in frames:
        for other, partner in enumerate(partners[frame].tolist()):
            if partner >= 0 and covered[frame, partner, owner]:
                return IdentityEvent("merge", owner, before, frame, other)
    return None


def _covered(labelled: Sequence[Instance], found: Sequence[Instance], length: int) -> np.ndarray:
    """Whether a detection covers enough of an object: (T, N, M) bool, False where the object is absent."""
    covered = np.zeros((length, len(found), len(labelled)), bool)
    if labelled and found:
        shared = frame_intersections(found, labelled)
        for m, own in enumerate(labelled):
            areas = own.mask_areas[: len(shared), None]
            covered[: len(areas), :, m] = (shared[: len(areas), :, m] >= _COVERED * areas) & (areas > 0)
    return covered
