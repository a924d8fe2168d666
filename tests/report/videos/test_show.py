from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vislab import rle
from vislab.errors import UserError
from vislab.report.videos.overlays import PALETTE
from vislab.report.videos.show import Clip, Drawing, video_sheet, write_animation, write_sheets
from vislab.report.videos.tracks import Track


def clip(length: int = 9, name: str = "a/b", predictions: list[Track] | None = None) -> Clip:
    """Frame t has the grey value 20 + t; the instance is the left half, absent in odd frames."""
    mask = np.zeros((24, 40), bool)
    mask[:, :20] = True
    track = Track(PALETTE[0], "", [rle.encode(mask) if t % 2 == 0 else None for t in range(length)])
    read = lambda frames: np.stack([np.full((24, 40, 3), 20 + t, np.uint8) for t in frames])  # noqa: E731
    return Clip(name, "caption", length, read, [track], predictions)


def values(image: Image.Image) -> set[int]:
    pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    grey = pixels[(pixels[:, 0] == pixels[:, 1]) & (pixels[:, 1] == pixels[:, 2])]
    return set(grey[:, 0].tolist())


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    assert Drawing(3).frames(9, 6) == [0, 4, 8]
    assert Drawing().frames(9, 6) == [0, 2, 3, 5, 6, 8]
    assert Drawing(20).frames(3, 6) == [0, 1, 2] and Drawing(1).frames(5, 6) == [0]
    assert {20, 24, 28} <= values(video_sheet(clip(), Drawing(3, scale=1)))


def test_panels_are_image_truth_and_prediction() -> None:
    image, truth = clip().panels(0, None)
    assert image.size == truth.size == (320, 192) and values(image) == {20}
    assert len(clip(predictions=[]).panels(0, 1)) == 3
    present, absent = np.asarray(truth), np.asarray(clip().panels(1, None)[1])
    assert (present[:, :150] != 20).all() and (present[:, 162:] == 20).all() and (absent == 21).all()


def test_one_picture_or_a_folder(tmp_path: Path) -> None:
    clips = [clip(), clip(name="c")]
    (single,) = write_sheets(clips, tmp_path / "new" / "all.png", Drawing(2, 1))
    folder = write_sheets(clips, tmp_path / "pictures", Drawing(2, 1))
    assert [path.name for path in folder] == ["a_b.png", "c.png"]
    heights = [Image.open(path).height for path in folder]
    assert Image.open(single).height == sum(heights)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a_b.png", "c.png"]


def test_an_animation_has_every_frame(tmp_path: Path) -> None:
    path = write_animation(clip(5), tmp_path / "clip.gif", Drawing(scale=1))
    with Image.open(path) as image:
        assert image.n_frames == 5 and image.info["loop"] == 0
        for t in range(5):
            image.seek(t)
            assert 20 + t in values(image)
    with Image.open(write_animation(clip(1), tmp_path / "one.gif", Drawing(scale=1))) as image:
        assert image.n_frames == 1


def test_mistakes_are_named(tmp_path: Path) -> None:
    for options, message in (
        ({"num_frames": 0}, "--frames is 0, expected at least 1"),
        ({"scale": 0.0}, "--scale is 0, expected a number from 0.05 to 16"),
        ({"scale": float("nan")}, "--scale is nan"),
        ({"min_score": 1.5}, "--min-score is 1.5, expected a number from 0 to 1"),
    ):
        with pytest.raises(UserError, match=message):
            Drawing(**options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"x.jpg ends in '.jpg', expected .png, .gif or a folder"):
        write_sheets([clip()], tmp_path / "x.jpg", Drawing())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_sheets([clip()], tmp_path / "file" / "x.png", Drawing())
