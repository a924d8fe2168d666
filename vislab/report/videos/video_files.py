"""Pictures to a video, one after the other: MP4 (H.264), GIF, or a folder of PNG files, there whole or not at all.

None of them holds the pictures it has written.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from vislab.data.video_file import import_av
from vislab.errors import UserError
from vislab.records import atomic_folder, atomic_path
from vislab.report.videos.video_overlays import FoundInstance, OverlayArtist

__all__ = ["check_place", "check_video_place", "video_writer", "write_overlays"]

ENCODER = "libx264"  # of H.264; comes with PyAV's wheels
QUALITY = 18  # its constant rate factor: hardly to be told from the pictures
LEAST_DELAY = 2  # hundredths of a second; viewers slow animations down that ask for less


class _Writer(Protocol):
    def write(self, picture: Image.Image) -> None:
        """RGB, all of one size."""
        ...

    def finish(self) -> None:
        """After the last picture."""
        ...

    def close(self) -> None:
        """Releases the file, finished or not."""
        ...


def check_video_place(out: Path) -> None:
    """Raises UserError, before any work, where `video_writer` could not write: another ending, no PyAV, no room."""
    kind = _kind(out)
    if kind is _Mp4:
        _check_encoder()
    if kind is _Folder:
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"--out {out}: is a folder with files in it, expected an empty or a new one")
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out}: is a file without a suffix, expected .mp4, .gif or a folder")
        check_place("--out", out / "frame")
    else:
        check_place("--out", out)


def check_place(option: str, path: Path) -> None:
    """Raises UserError if no file can be written there."""
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder, expected the name of a file")
    existing = next((folder for folder in path.parents if folder.exists()), Path())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror or error})") from None


@contextmanager
def video_writer(out: Path, fps: Fraction) -> Iterator[_Writer]:
    """Where `write` takes pictures; what they make has its name once the block has ended well, and is gone otherwise.

    out: NAME.mp4, NAME.gif, or a folder, which must be empty if it is there. Raises UserError for another ending, or a
    place that cannot be written to.
    """
    kind = _kind(out)
    with ExitStack() as stack:
        with _told(out):
            place = atomic_folder(out) if kind is _Folder else atomic_path(out)
            writer = _Told(kind(stack.enter_context(place), fps), out)
        stack.callback(writer.close)
        yield writer
        writer.finish()


def write_overlays(
    frames: Iterable[tuple[np.ndarray, Iterable[FoundInstance]]],
    artist: OverlayArtist,
    out: Path,
    fps: Fraction,
    advance: Callable[[], None],
) -> int:
    """Draws frames as they come and writes each at once; how many there were.

    frames: (H, W, 3) uint8 RGB, with what was found in them. advance: called after each. Raises UserError if there are
    none, or if they cannot be written.
    """
    count = 0
    with video_writer(out, fps) as writer:
        for frame, instances in frames:
            writer.write(artist.draw(frame, instances))
            count += 1
            advance()
        if not count:
            raise UserError(f"{out}: not written, as the video has no frames")
    return count


def _kind(out: Path) -> type[_Mp4 | _Gif | _Folder]:
    suffix = out.suffix.lower()
    if out.is_dir() or not suffix:
        return _Folder
    if suffix not in (".mp4", ".gif"):
        raise UserError(f"--out {out} ends in '{out.suffix}', expected .mp4, .gif or a folder")
    return _Mp4 if suffix == ".mp4" else _Gif


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """What the system or PyAV refuses, as a sentence."""
    av = sys.modules.get("av")
    refusals = (OSError,) if av is None else (OSError, av.FFmpegError)
    try:
        yield
    except refusals as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None


def _check_encoder() -> None:
    av = import_av()
    if ENCODER not in av.codecs_available:
        raise UserError(f"this build of av has no {ENCODER}, which .mp4 needs; expected --out with .gif or a folder")


class _Told:
    """A writer whose errors are sentences."""

    def __init__(self, writer: _Writer, out: Path) -> None:
        self._writer, self._out = writer, out

    def write(self, picture: Image.Image) -> None:
        with _told(self._out):
            self._writer.write(picture)

    def finish(self) -> None:
        with _told(self._out):
            self._writer.finish()

    def close(self) -> None:
        self._writer.close()


class _Mp4:
    """H.264 as every player reads it: yuv420p, BT.709, even sides (an odd one gets its last line twice)."""

    def __init__(self, path: Path, fps: Fraction) -> None:
        self._av, self._fps = import_av(), fps
        # the index comes first, so that a browser can start before it has the whole file
        self._container = self._av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream: Any = None
        self._count = 0

    def write(self, picture: Image.Image) -> None:
        pixels = np.asarray(picture)
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._new_stream(height=pixels.shape[0], width=pixels.shape[1])
        rgb = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = self._count, 1 / self._fps
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def close(self) -> None:
        self._container.close()

    def _new_stream(self, height: int, width: int) -> Any:
        stream = self._container.add_stream(ENCODER, rate=self._fps, options={"crf": str(QUALITY)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1  # BT.709, 16 to 235
        return stream


class _Gif:
    """GIF89a, picture by picture, each with 256 colours of its own.

    Pillow compresses each picture; its own writer of animations would hold all of them until the end.
    """

    def __init__(self, path: Path, fps: Fraction) -> None:
        self._file = path.open("wb")
        self._fps, self._count = fps, 0

    def write(self, picture: Image.Image) -> None:
        single = io.BytesIO()
        picture.quantize(dither=Image.Dither.NONE).save(single, "GIF", interlace=0)
        screen, colours, image = _parts(single.getvalue())
        if not self._count:
            loop = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"  # for ever
            self._file.write(b"GIF89a" + screen[:4] + b"\x00\x00\x00" + loop)
        delay = self._hundredths(self._count + 1) - self._hundredths(self._count)
        self._file.write(b"\x21\xf9\x04\x04" + max(LEAST_DELAY, delay).to_bytes(2, "little") + b"\x00\x00")
        table = 0x80 | (screen[4] & 7)  # a table of its own, of the size that the global one had
        self._file.write(image[:9] + bytes([table]) + colours + image[10:])
        self._count += 1

    def finish(self) -> None:
        self._file.write(b"\x3b")
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def _hundredths(self, frame: int) -> int:
        """When a frame begins."""
        return round(100 * frame / self._fps)


def _parts(single: bytes) -> tuple[bytes, bytes, bytes]:
    """Of a GIF of one picture: logical screen descriptor, global colour table, image block without its table.

    Blocks as in the GIF89a specification (CompuServe, 1990), sections 18 to 27.
    """
    screen = single[6:13]
    start = 13 + 3 * 2 ** ((screen[4] & 7) + 1)
    colours, position = single[13:start], start
    while single[position] == 0x21:  # extensions: two bytes, then sub-blocks up to an empty one
        position += 2
        while single[position]:
            position += 1 + single[position]
        position += 1
    assert screen[4] & 0x80 and single[position] == 0x2C and single[-1] == 0x3B
    return screen, colours, single[position:-1]


class _Folder:
    """00000.png, 00001.png ..."""

    def __init__(self, path: Path, fps: Fraction) -> None:
        self._path, self._count = path, 0

    def write(self, picture: Image.Image) -> None:
        picture.save(self._path / f"{self._count:05d}.png")
        self._count += 1

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass
