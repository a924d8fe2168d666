"""Time of a frame and peak memory, frame by frame, of online inference with refinement and without it.

examples:
  stream_benchmark.py                                RefineVIS' shipped tiny weights, 300 frames of synthetic-ovis
  stream_benchmark.py --window 10 20 --rounds 5      two memories beside none
  stream_benchmark.py --checkpoint RUN/weights.safetensors --scale small --device cuda

Every frame is a call of its own, as a camera would make it: the time is from handing in the frame to having its masks
as run-length codes, without reading or drawing. The reference, window 0, associates and does not refine. Before
anything is timed, its results and those of every window are compared with the same video's eight frames at a time.
Rows go to reports/bench/stream-HARDWARE.csv; those of other models and lengths stay.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import refinevis
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scales import WEIGHTS
from script_parser import ROOT, add_device, script_parser
from torch import nn

from vislab import rle
from vislab.data import VideoDataset, load_dataset
from vislab.engine.config import EvalConfig
from vislab.engine.device import peak_memory_bytes, reset_peak_memory, resolve_device, torch_threads
from vislab.engine.predict import VideoPredictor
from vislab.engine.saved_model import model_of_weights
from vislab.engine.stream_inference import FrameResult, stream_video
from vislab.errors import UserError
from vislab.report.benchmark_file import processor_name, slug, stamp, update_rows
from vislab.stitching.video_stream import StreamConfig
from vislab.study.declare import SCALES

COMPARED = 24  # frames that are compared before all are timed
WARM_UP = 8  # frames that are not counted
WITHOUT = "without refinement"


@dataclass(frozen=True)
class Measured:
    """The fields are the columns of the CSV. Times are wall-clock, per frame after the first WARM_UP, the least of all
    rounds."""

    case: str
    frames: int
    competitor: str
    median_ms: float
    p95_ms: float
    spread: float  # range of the median over rounds, divided by the least
    ratio: float  # how many times as fast as the reference
    reference: str
    rounds: int
    tracks: float  # instances of a frame, mean
    peak_mib: float  # resident size of the process, or allocations on the GPU
    threads: int
    torch: str
    date: str  # UTC
    hardware: str
    git: str


COLUMNS = tuple(field.name for field in fields(Measured))
IDENTITY = ("case", "frames", "threads")  # of a row that a run measures again


class DifferentResultError(Exception):
    """Frame by frame is not what several frames at a time are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 if results differ, or 2 for a mistake of the user."""
    options = parser().parse_args(arguments)
    try:
        device = resolve_device(options.device)
        model, evaluation, dataset = set_up(options, device)
        path = output(options.out, device)
        with torch_threads(options.threads if device.type == "cpu" else None):
            rows = measure(model, evaluation, dataset, options, device)
        report(rows, path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DifferentResultError as error:
        print(f"different result, nothing is written: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    result = script_parser("stream_benchmark.py", __doc__)
    add = result.add_argument
    add("--checkpoint", type=Path, metavar="FILE", help="RefineVIS' weights (default: the shipped ones of the scale)")
    add("--scale", choices=SCALES, default="tiny", help="of the model (default: tiny)")
    add("--frames", type=int, default=300, metavar="N", help="of the video (default: 300)")
    add("--window", type=int, nargs="+", default=[10], metavar="W", help="frames that refinement sees (default: 10)")
    add("--rounds", type=int, default=3, metavar="N", help="default: 3")
    add("--threads", type=int, default=1, metavar="N", help="of torch on the CPU (default: 1)")
    add_device(result)
    add("--out", type=Path, default=ROOT / "reports" / "bench", metavar="DIR", help="default: reports/bench")
    return result


def set_up(options: argparse.Namespace, device: torch.device) -> tuple[nn.Module, EvalConfig, VideoDataset]:
    """Model, its evaluation and one long crowded video. Raises UserError for options or files that do not fit."""
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}, expected at least 1")
    if options.frames < COMPARED:
        raise UserError(f"--frames is {options.frames}, expected at least {COMPARED}, which are compared first")
    if min(options.window) < 1:
        raise UserError(f"--window is {min(options.window)}, expected at least 1; 0 is measured in any case")
    run = refinevis.base(options.scale)
    path = options.checkpoint or WEIGHTS / f"refinevis-{options.scale}.safetensors"
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give --checkpoint FILE")
    _, model = model_of_weights(run.model, path)
    data = replace(run.evaluation.data, name=refinevis.CROWDS, num_videos=1, length=options.frames)
    return model.to(device).eval(), run.evaluation, load_dataset(data, "valid")


def output(folder: Path, device: torch.device) -> Path:
    """The CSV. Raises UserError, before anything is timed, if new rows could not stand in it."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: is no folder")
    path = folder / f"stream-{slug(hardware_name(device))}.csv"
    if path.exists():
        update_rows(path, COLUMNS, [], IDENTITY)  # its own rows, written once more
    return path


def hardware_name(device: torch.device) -> str:
    return processor_name() if device.type == "cpu" else torch.cuda.get_device_name(device)


def measure(
    model: nn.Module, evaluation: EvalConfig, dataset: VideoDataset, options: argparse.Namespace, device: torch.device
) -> list[Measured]:
    """A row for window 0, the reference, and one for each other window. Raises DifferentResultError."""
    streams = {WITHOUT: StreamConfig(window=0)}
    streams |= {f"window {window}": StreamConfig(window=window) for window in dict.fromkeys(options.window)}
    frames = dataset.frames(0, range(COMPARED))
    for name, stream in streams.items():
        compare(name, model, replace(evaluation, stream=stream), frames, len(dataset.categories), device)
    passes: dict[str, list[Pass]] = {name: [] for name in streams}
    turns = [name for number in range(options.rounds) for name in _rotated(list(streams), number)]
    for name in track(turns, f"{len(streams)} x {options.rounds} passes", transient=True):
        passes[name].append(one_pass(model, evaluation, streams[name], dataset, device))
    least = {name: min(found.median for found in each) for name, each in passes.items()}
    about = stamp(hardware_name(device))
    return [
        Measured(
            case=f"refinevis {options.scale}, {evaluation.short_side} pixels",
            frames=options.frames,
            competitor=name,
            median_ms=1000 * least[name],
            p95_ms=1000 * min(found.p95 for found in each),
            spread=(max(found.median for found in each) - least[name]) / least[name],
            ratio=least[WITHOUT] / least[name],
            reference=WITHOUT,
            rounds=options.rounds,
            tracks=each[0].tracks,
            peak_mib=max(found.peak_bytes for found in each) / 2**20,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            **about,
        )
        for name, each in passes.items()
    ]


def _rotated(names: list[str], turns: int) -> list[str]:
    """So that nobody always comes first."""
    start = turns % len(names)
    return names[start:] + names[:start]


@dataclass(frozen=True)
class Pass:
    """median, p95: seconds of a frame. tracks: mean number of instances in a frame."""

    median: float
    p95: float
    tracks: float
    peak_bytes: int


def one_pass(
    model: nn.Module, evaluation: EvalConfig, stream: StreamConfig, dataset: VideoDataset, device: torch.device
) -> Pass:
    """All frames, each read before its time begins."""
    gc.collect()
    reset_peak_memory(device)
    seconds: list[float] = []
    instances, arrival = 0, [0.0]

    def frames() -> Iterator[np.ndarray]:
        for number in range(dataset.info(0).length):
            (frame,) = dataset.frames(0, [number])
            arrival[0] = time.perf_counter()
            yield frame

    for result in _streamed(model, evaluation, stream, frames(), len(dataset.categories)):
        seconds.append(time.perf_counter() - arrival[0])  # run-length codes are on the host: CUDA has finished
        instances += len(result.instances)
    counted = np.asarray(seconds[WARM_UP:])
    median, p95 = float(np.median(counted)), float(np.quantile(counted, 0.95))
    return Pass(median, p95, instances / len(seconds), peak_memory_bytes(device))


def _streamed(
    model: nn.Module, evaluation: EvalConfig, stream: StreamConfig, frames: Iterator[np.ndarray], categories: int
) -> Iterator[FrameResult]:
    return stream_video(
        model, frames, stream, num_categories=categories, short_side=evaluation.short_side,
        max_side=evaluation.max_side, mask_threshold=evaluation.mask_threshold,
        mask_alignment=evaluation.mask_alignment,
    )  # fmt: skip


def compare(
    name: str, model: nn.Module, evaluation: EvalConfig, frames: np.ndarray, categories: int, device: torch.device
) -> None:
    """Also the warm-up. Raises DifferentResultError if a frame's tracks, labels or masks depend on how many frames the
    model sees together; scores and borders may differ by the last bits of its arithmetic."""
    assert evaluation.stream is not None
    together = VideoPredictor(model, evaluation, categories, device).follow(iter(frames))
    single = _streamed(model, evaluation, evaluation.stream, iter(frames), categories)
    for one, (_, other) in zip(single, together, strict=True):
        found, expected = ({i.track_id: i for i in result.instances} for result in (one, other))
        place = f"{name}, frame {one.frame}"
        if found.keys() != expected.keys():
            raise DifferentResultError(f"{place}: tracks {sorted(found)} frame by frame, {sorted(expected)} together")
        for track_id, own in found.items():
            shared = expected[track_id]
            if own.label != shared.label or abs(own.score - shared.score) > 1e-4:
                raise DifferentResultError(f"{place}, track {track_id}: another label or score")
            pixels = [0 if i.segmentation is None else rle.area(i.segmentation) for i in (own, shared)]
            if abs(pixels[0] - pixels[1]) > 2:
                raise DifferentResultError(f"{place}, track {track_id}: {pixels[0]} against {pixels[1]} pixels")


def report(rows: Sequence[Measured], path: Path) -> None:
    """Print the rows and write them."""
    console, table = Console(), Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("", "median ms", "95 % ms", "spread", "times as fast", "tracks", "peak MiB"):
        table.add_column(title, justify="right" if title else "left")
    for row in rows:
        ratio = "reference" if row.competitor == row.reference else f"{row.ratio:.2f}"
        numbers = (f"{row.median_ms:.1f}", f"{row.p95_ms:.1f}", f"{100 * row.spread:.0f} %", ratio, f"{row.tracks:.1f}")
        table.add_row(row.competitor, *numbers, f"{row.peak_mib:.0f}")
    title = f"{rows[0].case}; {rows[0].frames} frames; {rows[0].hardware}, threads: {rows[0].threads}"
    console.print(title, style="bold", highlight=False)
    console.print(table)
    update_rows(path, COLUMNS, [asdict(row) for row in rows], IDENTITY)
    console.print(f"written: {path}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
