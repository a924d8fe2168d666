"""Export to the YouTube-VIS layout, read back by the reader of real data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vislab.data import DatasetConfig, load_dataset
from vislab.data.synthetic import SyntheticVideos, export
from vislab.errors import UserError

SMALL = DatasetConfig("synthetic-ovis", num_videos=2, height=48, width=80, length=3, num_categories=8)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_lossless_export_reads_back_as_the_same_data(tmp_path: Path, split: str) -> None:
    for name in ("train", "valid"):
        export(SyntheticVideos(SMALL, name), tmp_path, progress=False, lossless=True)  # type: ignore[arg-type]
    ours, read = SyntheticVideos(SMALL, split), load_dataset(DatasetConfig(str(tmp_path)), split)  # type: ignore[arg-type]
    assert read.categories == ours.categories and len(read) == 2
    for index in range(2):
        assert read.info(index) == ours.info(index)
        np.testing.assert_array_equal(read.frames(index, range(3)), ours.frames(index, range(3)))
        a, b = read.annotations(index, range(3)), ours.annotations(index, range(3))
        for field in ("labels", "masks", "boxes", "present", "iscrowd"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
        np.testing.assert_allclose(a.visible_fraction, b.visible_fraction, atol=1e-4)


def test_layout_and_json_of_a_jpeg_export(tmp_path: Path) -> None:
    dataset = SyntheticVideos(SMALL, "valid")
    written = export(dataset, tmp_path / "new" / "folder", progress=False)
    folder = tmp_path / "new" / "folder"
    assert written == folder / "valid.json"
    assert sorted(path.name for path in folder.iterdir()) == ["valid", "valid.json"]
    content = json.loads(written.read_text())
    assert content == dataset.ground_truth()
    for video in content["videos"]:
        for frame, name in enumerate(video["file_names"]):
            with Image.open(folder / "valid" / "JPEGImages" / name) as image:
                assert image.size == (80, 48) and image.format == "JPEG"
                expected = dataset.frames(video["id"] - 1, [frame])[0]
                assert np.abs(np.asarray(image).astype(int) - expected).mean() < 4


def test_export_refuses_what_is_there_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = SyntheticVideos(SMALL, "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "something").touch()
    with pytest.raises(UserError, match="train exists already"):
        export(dataset, tmp_path, progress=False)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        export(dataset, tmp_path / "file", progress=False)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export(dataset, tmp_path / "fresh", progress=False)
    assert not any((tmp_path / "fresh").iterdir())
