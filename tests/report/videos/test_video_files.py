"""Pictures to MP4, GIF and folders: read back with other tools, and never half there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from vislab.errors import UserError
from vislab.report.videos.overlays import PALETTE
from vislab.report.videos.video_files import check_place, check_video_place, video_writer, write_overlays
from vislab.report.videos.video_overlays import OverlayArtist

SUFFIXES = [".mp4", ".gif", ""]
FPS = Fraction(30000, 1001)


@pytest.fixture(params=SUFFIXES, ids=["mp4", "gif", "folder"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == ".mp4":
        pytest.importorskip("av", reason="av is not installed")
    return tmp_path / "new" / f"found{request.param}"


def pictures(count: int, height: int = 41, width: int = 53) -> list[Image.Image]:
    """Four areas in colours of the palette, which move round."""
    result = []
    for number in range(count):
        pixels = np.zeros((height, width, 3), np.uint8)
        quarters = (np.s_[:20, :26], np.s_[:20, 26:], np.s_[20:, :26], np.s_[20:, 26:])
        for position, quarter in enumerate(quarters):
            pixels[quarter] = PALETTE[(number + position) % len(PALETTE)]
        result.append(Image.fromarray(pixels))
    return result


def read_back(out: Path) -> list[np.ndarray]:
    if out.suffix == ".mp4":
        import av

        with av.open(str(out)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if out.suffix == ".gif":
        with Image.open(out) as image:
            return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    return [np.asarray(Image.open(path)) for path in sorted(out.iterdir())]


@pytest.mark.parametrize("count", [1, 5])
def test_what_is_written_can_be_read(out: Path, count: int) -> None:
    wanted = pictures(count)
    with video_writer(out, FPS) as writer:
        for picture in wanted:
            writer.write(picture)
        assert not out.exists()
    found = read_back(out)
    assert len(found) == count and [path.name for path in out.parent.iterdir()] == [out.name]
    for pixels, picture in zip(found, wanted, strict=True):
        even = out.suffix == ".mp4"
        assert pixels.shape == (42, 54, 3) if even else (41, 53, 3)
        for row, column in ((10, 13), (10, 40), (30, 13), (30, 40)):  # far from edges, where colour is subsampled
            difference = np.abs(pixels[row, column].astype(int) - picture.getpixel((column, row)))
            assert difference.max() <= (6 if even else 0)


def test_mp4_plays_everywhere(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="av is not installed")
    with video_writer(tmp_path / "a.mp4", FPS) as writer:
        for picture in pictures(30):
            writer.write(picture)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 30)
        assert stream.average_rate == FPS and (stream.colorspace, stream.color_range) == (1, 1)
        times = [frame.time for frame in container.decode(stream)]
    np.testing.assert_allclose(times, np.arange(30) / float(FPS), atol=1e-3)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first"


@pytest.mark.parametrize(("fps", "delays"), [(6, [170, 160, 170]), (24, [40, 40, 40]), (100, [20, 20, 20])])
def test_a_gif_keeps_time_on_average_and_runs_for_ever(tmp_path: Path, fps: int, delays: list[int]) -> None:
    with video_writer(tmp_path / "a.gif", Fraction(fps)) as writer:
        for picture in pictures(3):
            writer.write(picture)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0 and image.n_frames == 3
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(image)] == delays


def test_a_gif_of_many_colours_is_as_pillow_quantises_it(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    with video_writer(tmp_path / "a.gif", Fraction(6)) as writer:
        writer.write(noise)
        writer.write(noise.rotate(180))
    wanted = np.asarray(noise.quantize(dither=Image.Dither.NONE).convert("RGB"))
    np.testing.assert_array_equal(read_back(tmp_path / "a.gif")[0], wanted)


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
@pytest.mark.parametrize("after", [0, 2])
def test_what_is_interrupted_leaves_nothing(out: Path, error: type[BaseException], after: int) -> None:
    with pytest.raises(error), video_writer(out, FPS) as writer:
        for picture in pictures(after):
            writer.write(picture)
        raise error
    assert not list(out.parent.iterdir())


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "a.gif"
    out.write_text("old")
    with pytest.raises(KeyboardInterrupt), video_writer(out, FPS) as writer:
        writer.write(pictures(1)[0])
        raise KeyboardInterrupt
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]
    with video_writer(out, FPS) as writer:
        writer.write(pictures(1)[0])
    assert len(read_back(out)) == 1


class Counting:
    """Frames that know how many of them are alive."""

    def __init__(self, count: int) -> None:
        self.count, self.read, self.written, self.most = count, 0, 0, 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, list[Any]]]:
        for number in range(self.count):
            self.read += 1
            self.most = max(self.most, self.read - self.written)
            yield np.full((16, 320, 3), number, np.uint8), []

    def advance(self) -> None:
        self.written += 1


def test_each_frame_is_written_before_the_next_is_asked_for(tmp_path: Path) -> None:
    frames = Counting(40)
    assert write_overlays(frames, OverlayArtist(()), tmp_path / "frames", FPS, frames.advance) == 40
    assert frames.most == 1 and len(read_back(tmp_path / "frames")) == 40
    assert sorted(path.name for path in (tmp_path / "frames").iterdir())[-1] == "00039.png"


def test_a_video_without_frames_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not written, as the video has no frames"):
        write_overlays(iter(()), OverlayArtist(()), tmp_path / "a.gif", FPS, lambda: None)
    assert not list(tmp_path.iterdir())


def test_places_are_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("a.avi", r"a.avi ends in '.avi', expected .mp4, .gif or a folder"),
        ("full", "is a folder with files in it, expected an empty or a new one"),
        ("full/file", "is a file without a suffix"),
        ("full/file/a.gif", "cannot be written"),
    ):
        with pytest.raises(UserError, match=message):
            check_video_place(tmp_path / name)
    with pytest.raises(UserError, match="--json .*: is a folder, expected the name of a file"):
        check_place("--json", tmp_path / "full")
    for good in ("empty", "new/folder", "new/a.gif"):
        check_video_place(tmp_path / good)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[video\]'"):
        check_video_place(tmp_path / "a.mp4")


def test_an_empty_folder_that_is_there_is_filled(tmp_path: Path) -> None:
    with video_writer(tmp_path, FPS) as writer:
        writer.write(pictures(1)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["00000.png"]
