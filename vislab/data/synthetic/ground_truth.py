"""Ground truth of a synthetic split in the form of the YouTube-VIS annotation files, and of COCO's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from vislab import rle

if TYPE_CHECKING:
    from vislab.data.synthetic.videos import SyntheticVideos

Record = tuple[dict[str, Any], list[dict[str, Any]]]


def document(dataset: SyntheticVideos, records: Iterable[Record]) -> dict[str, Any]:
    """The annotation file of the videos whose `video_record`s these are; numbers the annotations from 1.

    Keys that the published files do not have, per annotation and frame: "visible_fractions", visible pixels over those
    of the whole silhouette, also outside of the frame (0 where null); "opacities", how opaque the object was drawn, on
    average over its mask where it is damaged.
    """
    return _document(dataset, "videos", records)


def stills_document(dataset: SyntheticVideos, records: Iterable[Record]) -> dict[str, Any]:
    """The COCO annotation file of the images whose `still_record`s these are."""
    return _document(dataset, "images", records)


def _document(dataset: SyntheticVideos, noun: str, records: Iterable[Record]) -> dict[str, Any]:
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for picture, instances in records:
        pictures.append(picture)
        annotations.extend(
            {"id": number, **instance} for number, instance in enumerate(instances, start=len(annotations) + 1)
        )
    return {
        "info": {"description": dataset.name, "version": dataset.fingerprint()},
        noun: pictures,
        "categories": [{"id": c.id, "name": c.name, "supercategory": "object"} for c in dataset.categories],
        "annotations": annotations,
    }


def still_record(dataset: SyntheticVideos, index: int, suffix: str = ".jpg") -> Record:
    """One image's entry and its annotations in COCO's form, without ids; masks are compressed RLEs."""
    video, tracks = video_record(dataset, index, suffix)
    name = f"{dataset.info(index).name}{suffix}"
    image = {"id": video["id"], "file_name": name, "height": video["height"], "width": video["width"]}
    annotations = [
        {
            "image_id": track["video_id"],
            "category_id": track["category_id"],
            "iscrowd": 0,
            "segmentation": track["segmentations"][0],
            "bbox": track["bboxes"][0],
            "area": track["areas"][0],
        }
        for track in tracks
    ]
    return image, annotations


def video_record(dataset: SyntheticVideos, index: int, suffix: str = ".jpg") -> Record:
    """One video's entry and its annotations, without ids: one per object that is ever visible, from far to near."""
    info = dataset.info(index)
    size = {"height": info.height, "width": info.width, "length": info.length}
    names = [f"{info.name}/{frame:05d}{suffix}" for frame in range(info.length)]
    found = dataset.annotations(index, range(info.length))
    opacities = dataset.opacities(index, found)
    instances = [
        {
            "video_id": info.id,
            "category_id": dataset.categories[int(found.labels[n])].id,
            "iscrowd": 0,
            **size,
            **_tracks(found.masks[n], found.boxes[n], found.present[n]),
            "visible_fractions": [round(float(fraction), 4) for fraction in found.visible_fraction[n]],
            "opacities": opacities[n].tolist(),
        }
        for n in range(len(found.labels))
    ]
    return {"id": info.id, **size, "file_names": names}, instances


def _tracks(masks: np.ndarray, boxes: np.ndarray, present: np.ndarray) -> dict[str, list[Any]]:
    """Masks (T, H, W), boxes (T, 4) xyxy and presence (T,) of one object, as RLEs, xywh and areas, or null."""
    codes = rle.encode_many(masks)
    corners = boxes.astype(int).tolist()
    areas = masks.sum(axis=(1, 2)).tolist()
    frames = range(len(masks))
    return {
        "segmentations": [codes[t] if present[t] else None for t in frames],
        "bboxes": [_xywh(*corners[t]) if present[t] else None for t in frames],
        "areas": [areas[t] if present[t] else None for t in frames],
    }


def _xywh(x1: int, y1: int, x2: int, y2: int) -> list[int]:
    return [x1, y1, x2 - x1, y2 - y1]
