"""A folder of frames: their order, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vislab.data import Category, VideoDataset
from vislab.data.frame_folder import FrameFolder
from vislab.errors import UserError
from vislab.metrics.inputs import read_ground_truth

CATEGORIES = (Category(1, "bear"), Category(7, "duck"))


def write(folder: Path, *names: str, size: tuple[int, int] = (20, 12)) -> Path:
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names):
        Image.new("RGB", size, (value, 0, 0)).save(folder / name)
    return folder


def test_a_folder_is_one_video_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = write(tmp_path / "walk", "10.png", "2.png", "1.png")
    (folder / "notes.txt").write_text("no frame")
    dataset = FrameFolder(folder, CATEGORIES)
    assert isinstance(dataset, VideoDataset) and len(dataset) == 1
    assert dataset.info(0) == (1, "walk", 12, 20, 3) and dataset.categories == CATEGORIES
    frames = dataset.frames(0, [0, 2, 0])
    assert frames.shape == (3, 12, 20, 3) and frames.dtype == np.uint8
    assert frames[:, 0, 0, 0].tolist() == [2, 0, 2]


def test_it_has_no_labels(tmp_path: Path) -> None:
    dataset = FrameFolder(write(tmp_path, "00000.jpg", "00005.jpg"), CATEGORIES)
    found = dataset.annotations(0, [0, 1])
    assert found.masks.shape == (0, 2, 12, 20) and found.boxes.shape == (0, 2, 4) and len(found.labels) == 0
    truth = read_ground_truth(dataset.ground_truth())
    assert truth.videos[1].length == 2 and truth.instances == [] and truth.categories == {1: "bear", 7: "duck"}


def test_the_fingerprint_follows_names_and_sizes(tmp_path: Path) -> None:
    folder = write(tmp_path, "a.png", "b.png")
    first = FrameFolder(folder, CATEGORIES).fingerprint()
    assert FrameFolder(folder, ()).fingerprint() == first
    write(folder, "c.png")
    assert FrameFolder(folder, CATEGORIES).fingerprint() != first


def test_mistakes_are_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        FrameFolder(tmp_path / "nowhere", CATEGORIES)
    with pytest.raises(UserError, match="no frames found, expected images"):
        FrameFolder(write(tmp_path / "empty"), CATEGORIES)
    mixed = write(tmp_path / "mixed", "0.png", "1.png")
    write(mixed, "1.png", size=(30, 12))
    with pytest.raises(UserError, match="1.png has 30x12 pixels, expected 20x12"):
        FrameFolder(mixed, CATEGORIES).frames(0, [0, 1])
    (mixed / "0.png").write_text("no image")
    with pytest.raises(UserError, match="0.png cannot be read as an image"):
        FrameFolder(mixed, CATEGORIES)
    with pytest.raises(IndexError, match="video 1 of a folder"):
        FrameFolder(write(tmp_path / "one", "0.png"), CATEGORIES).info(1)
