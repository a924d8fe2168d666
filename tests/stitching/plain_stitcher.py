"""Clip stitching by its plain definition: whole-video arrays, one pair and one pixel sum at a time, all assignments.

Nothing is shared with the package but the configuration and the containers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from vislab.rle import encode
from vislab.stitching import ClipDetections, ClipInferenceConfig

Cell = dict  # label, score, box, logits (H, W)


def plain_stitching(clips: Sequence[ClipDetections], config: ClipInferenceConfig) -> list[tuple]:
    """The tracks, each as sorted (frame, (label, score, counts or None)), as `clips.partition` gives them."""
    tracks: list[dict[int, Cell]] = []
    ended: set[int] = set()
    end = 0
    for number, clip in enumerate(clips):
        new = [instance(clip, i) for i in range(len(clip.labels))]
        pairs = compared_frames(clip.first, end, config)
        rows = [
            i for i, track in enumerate(tracks) if i not in ended and competes(track, [a for a, _ in pairs], config)
        ]
        columns = [j for j, track in enumerate(new) if competes(track, [b for _, b in pairs], config)]
        costs = {(i, j): cost(tracks[i], new[j], pairs, config) for i in rows for j in columns}
        if config.stitching.birth == "per_class":
            costs = {(i, j): c for (i, j), c in costs.items() if category(tracks[i]) == category(new[j])}
        match = best_assignment(costs, config)
        if config.stitching.birth == "per_class":
            ended |= set(range(len(tracks))) - {i for i, _ in match}
        for i, j in match:
            for frame, cell in new[j].items():
                if frame not in tracks[i] or cell["score"] > tracks[i][frame]["score"]:
                    tracks[i][frame] = cell
        if config.stitching.birth != "none" or number == 0:
            tracks += [track for j, track in enumerate(new) if j not in {j for _, j in match}]
        end = clip.first + clip.length
    return written(tracks, config)


def instance(clip: ClipDetections, i: int) -> dict[int, Cell]:
    return {
        clip.first + t: {
            "label": int(clip.labels[i]), "score": float(clip.scores[i, t]), "box": clip.boxes[i, t].astype(float),
            "logits": clip.mask_logits[clip.mask_index[i], t].numpy().astype(float),
        }
        for t in range(clip.scores.shape[1])
    }  # fmt: skip


def compared_frames(first: int, end: int, config: ClipInferenceConfig) -> list[tuple[int, int]]:
    if first >= end:
        return [(end - 1, first)]
    overlap = config.clip_length - config.clip_stride
    start = first
    if config.stitching.cue_frames == "stride" and overlap > 0:
        start = max(first, end - overlap)
    return [(frame, frame) for frame in range(start, end)]


def competes(track: dict[int, Cell], frames: Sequence[int], config: ClipInferenceConfig) -> bool:
    floor = config.stitching.min_frame_score if config.stitching.birth == "paper" else 0
    return any(frame in track and track[frame]["score"] >= floor for frame in frames)


def category(track: dict[int, Cell]) -> int:
    (label,) = {cell["label"] for cell in track.values()}
    return label


def cost(old: dict[int, Cell], new: dict[int, Cell], pairs: Sequence, config: ClipInferenceConfig) -> float:
    options = config.stitching
    nothing = {"label": -1, "score": 0.0, "box": None, "logits": None}
    cells = [(old.get(a, nothing), new[b]) for a, b in pairs]
    total = options.score_weight * np.mean([abs(a["score"] - b["score"]) for a, b in cells])
    total -= options.class_weight * np.mean([a["label"] == b["label"] for a, b in cells])
    boxed = [np.abs(a["box"][:2] - b["box"][:2]).mean() for a, b in cells if a["box"] is not None]
    total += options.centre_weight * (np.mean(boxed) if boxed else 1.0)
    total -= options.box_weight * np.mean([0.0 if a["box"] is None else box_iou(a["box"], b["box"]) for a, b in cells])
    return total - options.mask_weight * mask_iou(cells, options.mask_cue)


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = []
    for axis in (0, 1):
        low = max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        high = min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        sides.append(max(0.0, high - low))
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def mask_iou(cells: Sequence, cue: str) -> float:
    empty = np.full(cells[0][1]["logits"].shape, -np.inf)
    pairs = [(empty if a["logits"] is None else a["logits"], b["logits"]) for a, b in cells]
    if cue == "soft_volume":
        volumes = [(1 / (1 + np.exp(-p)), 1 / (1 + np.exp(-q))) for p, q in pairs]
        return sum((p * q).sum() for p, q in volumes) / sum((p + q - p * q).sum() for p, q in volumes)
    ious = [((p > 0) & (q > 0)).sum() / max(((p > 0) | (q > 0)).sum(), 1) for p, q in pairs]
    return float(np.mean(ious))


def best_assignment(costs: dict[tuple[int, int], float], config: ClipInferenceConfig) -> list[tuple[int, int]]:
    """Every set of pairs is tried: the largest of least cost, or those that are worth more than being alone."""
    bound = config.stitching.max_cost
    rows, columns = ({pair[side] for pair in costs} for side in (0, 1))
    best: tuple[float, float, tuple] = (0.0, 0.0, ())
    for size in range(1, min(len(rows), len(columns)) + 1):
        for some_rows in itertools.combinations(sorted(rows), size):
            for some_columns in itertools.permutations(sorted(columns), size):
                pairs = tuple(zip(some_rows, some_columns, strict=True))
                if any(pair not in costs or (bound is not None and costs[pair] >= bound) for pair in pairs):
                    continue
                total = sum(costs[pair] - (bound or 0.0) for pair in pairs)
                best = min(best, (-size if bound is None else 0, total, pairs))
    return list(best[2])


def written(tracks: Sequence[dict[int, Cell]], config: ClipInferenceConfig) -> list[tuple]:
    result = []
    for track in tracks:
        cells = []
        for frame, cell in sorted(track.items()):
            mask = cell["logits"] > 0
            if cell["score"] >= config.stitching.min_frame_score:
                cells.append((frame, (cell["label"], cell["score"], encode(mask)["counts"] if mask.any() else None)))
        if cells:
            result.append(tuple(sorted(cells, key=repr)))
    return sorted(result)
