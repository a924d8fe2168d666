"""Videos read once from files, animations, folders and data sets."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vislab.data import DatasetConfig, load_dataset
from vislab.data.frame_source import FrameSource, dataset_video, open_frames
from vislab.errors import UserError

FPS = Fraction(30000, 1001)


def gradients(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Smooth pictures, which survive compression; each is brighter than the one before."""
    y, x = np.mgrid[:height, :width]
    plain = np.stack([2 * x, 3 * y, x + y], axis=-1)
    return [(plain + 9 * number).clip(0, 255).astype(np.uint8) for number in range(count)]


def write_mp4(path: Path, frames: list[np.ndarray], rotation: int = 0) -> Path:
    av = pytest.importorskip("av", reason="av is not installed")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv444p"
        if rotation:
            stream.set_display_rotation(rotation)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = number, 1 / FPS
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and float(np.abs(found.astype(int) - wanted).mean()) < 4


def test_a_video_file_frame_by_frame(tmp_path: Path) -> None:
    frames = gradients(7)
    source = open_frames(write_mp4(tmp_path / "a.mp4", frames))
    assert (source.length, source.fps, source.video_id) == (7, FPS, 1)
    for _ in range(2):  # a source can be read again
        found = list(source.read())
        assert len(found) == 7 and all(map(close, found, frames))
    assert found[0].dtype == np.uint8


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, -1), (180, 2)])
def test_a_video_held_sideways_is_turned(tmp_path: Path, rotation: int, turns: int) -> None:
    """The rotation is counterclockwise, as libavutil's av_display_rotation_get has it."""
    frames = gradients(2)
    found = list(open_frames(write_mp4(tmp_path / "a.mp4", frames, rotation)).read())
    assert close(found[1], np.rot90(frames[1], turns))


def test_broken_files_are_told_in_one_sentence(tmp_path: Path) -> None:
    whole = write_mp4(tmp_path / "a.mp4", gradients(40)).read_bytes()
    with pytest.raises(UserError, match="nothing.mp4: there is no such file or folder"):
        open_frames(tmp_path / "nothing.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    with pytest.raises(UserError, match=r"text.mp4 cannot be read as a video \(Invalid data"):
        open_frames(text)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(UserError, match=r"cut.mp4: frame \d+ cannot be decoded \("):
        list(open_frames(cut).read())


def test_without_av_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"video files need the package av: pip install -e '\.\[video\]'"):
        open_frames(tmp_path / "a.mp4")


def test_an_animation_needs_no_av(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    pictures = [Image.new("RGB", (20, 12), colour) for colour in colours]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=200)
    source = open_frames(tmp_path / "a.gif")
    assert (source.length, source.fps) == (3, Fraction(5))
    found = list(source.read())
    assert [tuple(frame[0, 0]) for frame in found] == colours and found[0].shape == (12, 20, 3)
    (tmp_path / "b.gif").write_bytes(b"GIF89a and no more")
    with pytest.raises(UserError, match="b.gif cannot be read as an image"):
        open_frames(tmp_path / "b.gif")


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for name, value in (("10.png", 3), ("2.png", 2), ("1.png", 1)):
        Image.new("RGB", (20, 12), (value, 0, 0)).save(tmp_path / name)
    source = open_frames(tmp_path)
    assert (source.length, source.fps) == (3, None)
    assert [int(frame[0, 0, 0]) for frame in source.read()] == [1, 2, 3]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no frames found, expected images"):
        open_frames(tmp_path / "empty")


def test_a_video_of_a_data_set_is_read_one_frame_at_a_time() -> None:
    dataset = load_dataset(DatasetConfig("synthetic-ytvis19", 2, 32, 48, 4), "valid")
    source = dataset_video(dataset, 1)
    assert (source.length, source.video_id) == (4, 2)
    np.testing.assert_array_equal(np.stack(list(source.read())), dataset.frames(1, range(4)))


def test_speed() -> None:
    source = FrameSource(lambda: iter(()), None, Fraction(25))
    assert source.speed(None) == 25 and source.speed(29.97) == pytest.approx(FPS, rel=1e-5)
    assert FrameSource(source.read, None, None).speed(None) == 6
    for wrong in (0.0, -3.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="--fps is .*, expected a number from 0.1 to 1000"):
            source.speed(wrong)
