"""IFC's clip tracking by definition: dense arrays of the whole video, loops over clips, instances and frames.

Shape letters: C clips, T frames of a clip, M instances, K classes, L frames of the video, H W image size.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from vislab.stitching import ClipInstances

Seen = dict[int, int]  # clip -> which of its instances


def plain_tracking(clips: list[ClipInstances], min_iou: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each instance of the video its class scores, (K,), its mask, (L, H, W) bool, and where it is seen, (L,)."""
    tracks: list[Seen] = []
    for number, clip in enumerate(clips):
        count = len(clip.mask_logits)
        iou = np.zeros((len(tracks), count))
        for row, track in enumerate(tracks):
            for column in range(count):
                iou[row, column] = mean_iou(clips, track, number, column)
        matched = best_matching(np.where(iou > min_iou, iou, 0.0))
        for column in range(count):
            if column in matched:
                tracks[matched[column]][number] = column
            else:
                tracks.append({number: column})
    return [averaged(clips, track) for track in tracks]


def mean_iou(clips: list[ClipInstances], track: Seen, number: int, column: int) -> float:
    values = []
    for earlier, index in track.items():
        shared = union = 0.0
        frames = set(frames_of(clips[earlier])) & set(frames_of(clips[number]))
        for frame in frames:
            p = probability(clips[earlier], index, frame)
            q = probability(clips[number], column, frame)
            shared, union = shared + (p * q).sum(), union + (p + q - p * q).sum()
        if frames:
            values.append(shared / union)
    return float(np.mean(values)) if values else 0.0


def best_matching(weight: np.ndarray) -> dict[int, int]:
    """Of all ways to give each column a row of its own, or none, the one of largest total weight: column -> row."""
    choices = [[None, *np.flatnonzero(column > 0).tolist()] for column in weight.T]
    best, most = {}, 0.0
    for chosen in product(*choices):
        found = {column: row for column, row in enumerate(chosen) if row is not None}
        total = sum(weight[row, column] for column, row in found.items())
        if len(set(found.values())) == len(found) and total > most:
            best, most = found, total
    return best


def averaged(clips: list[ClipInstances], track: Seen) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    length = max(frames_of(clip)[-1] for clip in clips) + 1
    masks, seen = np.zeros((length, *clips[0].mask_logits.shape[2:]), bool), np.zeros(length, bool)
    for frame in range(length):
        logits = [logit(clips[c], i, frame) for c, i in track.items() if frame in frames_of(clips[c])]
        if logits:
            masks[frame], seen[frame] = np.mean(logits, 0) > 0, True
    return np.mean([clips[c].class_scores[i].astype(float) for c, i in track.items()], 0), masks, seen


def frames_of(clip: ClipInstances) -> range:
    return range(clip.first, clip.first + clip.mask_logits.shape[1])


def logit(clip: ClipInstances, index: int, frame: int) -> np.ndarray:
    return clip.mask_logits[index, frame - clip.first].double().numpy()


def probability(clip: ClipInstances, index: int, frame: int) -> np.ndarray:
    return 1 / (1 + np.exp(-logit(clip, index, frame)))
