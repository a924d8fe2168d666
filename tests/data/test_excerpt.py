from __future__ import annotations

from pathlib import Path

import pytest
from tiny_videos import MemoryVideos, write_flat

from vislab import rle
from vislab.data import DatasetConfig, load_dataset
from vislab.data.excerpt import excerpt, find_videos
from vislab.errors import UserError

SMALL = DatasetConfig("synthetic-ovis+leave=1", num_videos=3, height=48, width=80, length=6, num_categories=8)


def test_equals_the_ground_truth_of_the_chosen_videos() -> None:
    dataset = load_dataset(SMALL, "valid")
    whole, part = dataset.ground_truth(), excerpt(dataset, [2, 0])
    expected = {video: [a for a in whole["annotations"] if a["video_id"] == video] for video in (3, 1)}
    assert [a["id"] for a in part["annotations"]] == list(range(1, len(part["annotations"]) + 1))
    found = iter(part["annotations"])
    for video in (3, 1):
        for annotation in expected[video]:
            entry = next(found)
            for key in ("video_id", "category_id", "iscrowd", "segmentations", "areas"):
                assert entry[key] == annotation[key], key
    assert next(found, None) is None
    assert [video["id"] for video in part["videos"]] == [1, 2, 3]
    assert [c["name"] for c in part["categories"]] == [c.name for c in dataset.categories]


def test_real_layout_and_frames_without_the_instance(tmp_path: Path) -> None:
    dataset = load_dataset(DatasetConfig(f"{write_flat(tmp_path)}+whole"), "valid")
    (entry,) = excerpt(dataset, [1])["annotations"]
    assert (entry["video_id"], entry["category_id"]) == (11, 3)
    assert entry["segmentations"][1] is None and entry["areas"][1] is None
    assert rle.area(entry["segmentations"][0]) == entry["areas"][0] == 29


def test_crowds_are_kept() -> None:
    entries = excerpt(MemoryVideos([2, 2], hidden=[1]), [1])["annotations"]
    assert [(entry["category_id"], entry["iscrowd"]) for entry in entries] == [(2, 1)]


def test_videos_are_found_by_name_and_position() -> None:
    dataset = MemoryVideos([2, 3, 4])
    assert find_videos(dataset, "2, video0") == [2, 0]
    for wanted, message in (
        ("3", "memory: no video '3'; expected positions from 0 to 2 or names such as 'video0'"),
        ("-1", "no video '-1'"),
        ("", "no video ''"),
        ("0,bear", "no video 'bear'"),
        ("1,video1", "video 'video1' is named twice"),
    ):
        with pytest.raises(UserError, match=message):
            find_videos(dataset, wanted)
