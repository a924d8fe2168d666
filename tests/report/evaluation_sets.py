"""A small data set in memory: six videos of one moving square each, found well by one model and badly by another."""

from __future__ import annotations

import numpy as np

from vislab import rle


def square(left: int, frame: int) -> dict:
    mask = np.zeros((20, 40), bool)
    mask[5:15, left + frame : left + frame + 10] = True
    return rle.encode(mask)


def moving(left: int, length: int = 4) -> list[dict]:
    return [square(left, frame) for frame in range(length)]


def ground_truth(*, occlusion: bool = True) -> dict:
    names = ["cat", "[red]dog"]
    annotations = [
        {"id": n, "video_id": n, "category_id": n % 2, "segmentations": moving(n), "areas": [100.0] * 4}
        for n in range(6)
    ]
    for record in annotations if occlusion else ():
        record["visible_fractions"] = [0.4 + 0.1 * record["id"]] * 4
    return {
        "videos": [{"id": n, "height": 20, "width": 40, "length": 4, "name": f"clip {n}"} for n in range(6)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": annotations,
    }


def results(shift: int, score: float = 0.9) -> list[dict]:
    """Every object, shifted by so many pixels, and a wrong detection beside it in the odd videos."""
    found = [
        {"video_id": n, "category_id": n % 2, "score": score, "segmentations": moving(n + shift)} for n in range(6)
    ]
    return found + [record | {"score": 0.95, "category_id": 0, "segmentations": moving(25)} for record in found[1::2]]
