"""Small sets for the tests of tracking metrics, and readers of the optional real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from random_sets import code

from vislab.metrics.frame_overlap import Scene
from vislab.metrics.inputs import GroundTruth, Instance, read_ground_truth, read_results


def strip(first: int, last: int) -> np.ndarray:
    """Columns first..last-1 of a small image."""
    mask = np.zeros((4, 20), bool)
    mask[:, first:last] = True
    return mask


def labelled(*masks: np.ndarray | None, category: int = 1, crowd: bool = False, video: int = 1) -> dict:
    """Annotation of one object; one mask, or None, per frame."""
    areas = [None if mask is None else float(mask.sum()) for mask in masks]
    common = {"video_id": video, "category_id": category, "segmentations": [code(mask) for mask in masks]}
    return common | {"areas": areas, "iscrowd": int(crowd)}


def detection(*masks: np.ndarray | None, score: float = 0.9, category: int = 1, video: int = 1) -> dict:
    segmentations = [code(mask) for mask in masks]
    return {"video_id": video, "category_id": category, "score": score, "segmentations": segmentations}


def read(annotations: list[dict], results: list[dict]) -> tuple[GroundTruth, list[Instance]]:
    """Checked input; videos, categories and sizes are those that occur, video 1 and category 1 always."""
    sizes: dict[int, list[int]] = {1: [4, 20]}
    for record in (*annotations, *results):
        for found in filter(None, record["segmentations"]):
            sizes[record["video_id"]] = found["size"]
    categories = {1} | {record["category_id"] for record in (*annotations, *results)}
    gt = {
        "videos": [{"id": video, "height": height, "width": width} for video, (height, width) in sizes.items()],
        "categories": [{"id": category, "name": str(category)} for category in sorted(categories)],
        "annotations": annotations,
    }
    truth = read_ground_truth(gt)
    return truth, read_results(results, truth)


def bdd100k_tracks(folder: Path) -> tuple[list[dict], list[dict]]:
    """Annotations and results of the segmentation tracking sample of BDD100K."""
    sides = [json.loads((folder / name).read_text()) for name in ("gt.json", "pred.json")]
    names = sorted({label["category"] for frames in sides for frame in frames for label in frame["labels"]})
    tracks: list[dict[tuple, dict]] = [{}, {}]
    for frames, side in zip(sides, tracks, strict=True):
        for frame in frames:
            for label in frame["labels"]:
                crowd = bool(label.get("crowd"))
                new = detection(*[None] * len(frames), score=1.0, category=names.index(label["category"]))
                new |= {"areas": [None] * len(frames), "iscrowd": int(crowd), "category_name": label["category"]}
                record = side.setdefault((label["id"], label["category"], crowd), new)
                record["segmentations"][frame["frameIndex"]] = label["rle"]
    return list(tracks[0].values()), list(tracks[1].values())


def identities(folder: Path, video: int) -> Scene:
    """Scene of a MOTChallenge folder (boxes): gt.txt and test.txt, both with frame, id, x, y, w, h, confidence."""
    truth, found = (np.loadtxt(folder / name, delimiter=",")[:, :7] for name in ("gt.txt", "test.txt"))
    truth = truth[truth[:, 6] != 0]
    length = int(max(truth[:, 0].max(), found[:, 0].max()))
    boxes, present = [], []
    for rows in (truth, found):
        ids = np.unique(rows[:, 1])
        cells = rows[:, 0].astype(int) - 1, np.searchsorted(ids, rows[:, 1])
        boxes.append(np.zeros((length, len(ids), 4)))
        present.append(np.zeros((length, len(ids)), bool))
        boxes[-1][cells] = rows[:, 2:6]
        present[-1][cells] = True
    return Scene(video, float_box_ious(boxes[0][:, :, None], boxes[1][:, None]), *present)


def float_box_ious(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., 4) boxes x, y, width, height."""
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0).prod(-1)
    unions = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    return np.divide(shared, unions, out=np.zeros(shared.shape), where=unions > 0)
