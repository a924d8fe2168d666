"""The labels of a few videos of a data set, without rendering or reading those of all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vislab import rle
from vislab.data.dataset import VideoDataset
from vislab.errors import UserError

__all__ = ["excerpt", "find_videos"]


def find_videos(dataset: VideoDataset, wanted: str) -> list[int]:
    """Indices of the videos that a list such as "0,3,bear" names by name or position, in its order.

    Raises UserError for one that does not exist or stands twice.
    """
    indices = {dataset.info(index).name: index for index in range(len(dataset))}
    found: list[int] = []
    for item in (part.strip() for part in wanted.split(",")):
        index = indices.get(item, int(item) if item.isdecimal() else -1)
        if not 0 <= index < len(dataset):
            raise UserError(
                f"{dataset.name}: no video '{item}'; expected positions from 0 to {len(dataset) - 1} or names such as "
                f"'{dataset.info(0).name}'"
            )
        if index in found:
            raise UserError(f"{dataset.name}: video '{item}' is named twice")
        found.append(index)
    return found


def excerpt(dataset: VideoDataset, indices: Sequence[int]) -> dict[str, Any]:
    """YouTube-VIS JSON with every video of the data set, but the annotations of the chosen ones only.

    The annotations of a video stand in the order of their track ids. Holds one frame's masks at a time.
    """
    infos = [dataset.info(index) for index in range(len(dataset))]
    annotations = [entry for index in indices for entry in _annotations(dataset, index)]
    return {
        "videos": [
            {"id": info.id, "height": info.height, "width": info.width, "length": info.length} for info in infos
        ],
        "categories": [{"id": category.id, "name": category.name} for category in dataset.categories],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
    }


def _annotations(dataset: VideoDataset, index: int) -> Iterator[dict[str, Any]]:
    info = dataset.info(index)
    tracks: dict[int, dict[str, Any]] = {}
    for t in range(info.length):
        found = dataset.annotations(index, [t])
        for n in range(len(found.track_ids)):
            if not found.present[n, 0]:
                continue
            entry = tracks.setdefault(
                int(found.track_ids[n]),
                {
                    "video_id": info.id,
                    "category_id": dataset.categories[int(found.labels[n])].id,
                    "iscrowd": int(found.iscrowd[n]),
                    "segmentations": [None] * info.length,
                    "areas": [None] * info.length,
                },
            )
            entry["segmentations"][t] = rle.encode(found.masks[n, 0])
            entry["areas"][t] = int(found.masks[n, 0].sum())
    return (tracks[track_id] for track_id in sorted(tracks))
