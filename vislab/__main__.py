"""The `vislab` command: measure results, look after data, look at the installation.

Every subcommand says with --help what it takes. A mistake gets one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from vislab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from vislab.data import VideoDataset
    from vislab.metrics.inputs import GroundTruth, Instance
    from vislab.report.show import Clip, Drawing

FORMATTER = argparse.RawDescriptionHelpFormatter
BENCHMARK = Path(__file__).resolve().parents[1] / "kernels" / "deform_attn" / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 for a mistake of the user."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="vislab",
        description="A laboratory for temporal modelling in video instance segmentation.",
        epilog="The papers' tables are run by experiments/reproduce_table.py (see its --list).",
        formatter_class=FORMATTER,
    )
    commands = result.add_subparsers(metavar="COMMAND", required=True)
    _add_evaluate(commands)
    data = commands.add_parser("data", help="check or draw a data set, make a synthetic one", formatter_class=FORMATTER)
    data_commands = data.add_subparsers(metavar="COMMAND", required=True)
    _add_check(data_commands)
    _add_synth(data_commands)
    _add_show(data_commands)
    bench = commands.add_parser("bench", help="measure the speed of the kernels", formatter_class=FORMATTER)
    _add_msda(bench.add_subparsers(metavar="COMMAND", required=True))
    doctor = commands.add_parser("doctor", help="versions, devices, and which paths of the kernels are live")
    doctor.set_defaults(run=_doctor)
    return result


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure YouTube-VIS results against a ground truth",
        description="Measure results in the YouTube-VIS format, with 95 % intervals over videos.",
        epilog="example:\n  vislab evaluate valid.json results.json --metrics ap --csv numbers.csv",
        formatter_class=FORMATTER,
    )
    evaluate.add_argument("ground_truth", type=Path, metavar="GT.json", help="videos, categories and annotations")
    evaluate.add_argument("results", type=Path, metavar="RESULTS.json", help="a list of scored tracks")
    evaluate.add_argument("--metrics", default="ap", metavar="NAMES", help="any of ap,visibility (default: ap)")
    evaluate.add_argument("--csv", type=Path, metavar="F", help="write the records as CSV")
    evaluate.add_argument("--json", type=Path, metavar="F", help="write the records as JSON")
    evaluate.set_defaults(run=_evaluate)


def _add_check(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser(
        "check",
        help="read everything in a data set and say what is in it, or what is wrong and where",
        description="Read all of a data set. Exit code 0 and a summary, or 2 and the first fault.",
    )
    check.add_argument("path", type=Path, metavar="PATH", help="a folder or an annotation file")
    check.set_defaults(run=_check)


def _add_synth(commands: argparse._SubParsersAction) -> None:
    synth = commands.add_parser(
        "synth",
        help="write a synthetic data set in the YouTube-VIS layout",
        description="Write videos of the synthetic benchmark as images and annotations, in the YouTube-VIS layout.",
        epilog="examples:\n"
        "  vislab data synth synthetic-ytvis19 --out clean --num-videos 20\n"
        "  vislab data synth synthetic-ovis+lookalike=0.5 --out crowd --split valid --height 192 --width 320",
        formatter_class=FORMATTER,
    )
    synth.add_argument("name", metavar="NAME", help="a preset, with dials: synthetic-ytvis19+faint=0.1")
    synth.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    synth.add_argument("--split", choices=("train", "valid", "both"), default="both", help="default: both")
    for option in ("num-videos", "height", "width", "length", "num-categories"):
        synth.add_argument(f"--{option}", type=int, metavar="N", help="default: as the preset has it")
    synth.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    synth.add_argument("--lossless", action="store_true", help="write PNG instead of JPEG")
    synth.set_defaults(run=_synth)


def _add_show(commands: argparse._SubParsersAction) -> None:
    show = commands.add_parser(
        "show",
        help="draw videos with their ground truth, and predictions beside it",
        description="Draw frames of videos, below them the ground truth and, with --results, the predictions.\n"
        "A prediction has the colour of the labelled instance that it overlaps best over the whole video (video IoU);\n"
        "one that overlaps none by 0.1 has a colour of its own.",
        epilog="examples:\n"
        "  vislab data show synthetic-ovis+faint=0.1 --out faint.png --height 96 --width 160 --length 12\n"
        "  vislab data show PATH --out overlays --videos 0,3,bear --results predictions.json\n"
        "  vislab data show PATH+whole --out bear.gif --videos bear",
        formatter_class=FORMATTER,
    )
    show.add_argument("dataset", metavar="DATASET", help="a synthetic preset with dials, a folder, an annotation file")
    show.add_argument(
        "--out", type=Path, required=True, metavar="FILE.png|FILE.gif|FOLDER",
        help="one picture of all videos; every frame of one video; or a folder, for a picture of each video",
    )  # fmt: skip
    show.add_argument("--split", choices=("train", "valid"), default="valid", help="default: valid")
    which = show.add_mutually_exclusive_group()
    which.add_argument("--videos", metavar="LIST", help="names or positions in the split, such as 0,3,bear")
    which.add_argument("--first", type=int, metavar="N", help="the first N videos (default: 4, of a .gif 1)")
    show.add_argument("--frames", type=int, metavar="N", help="spread evenly over each video (default: 6; .gif: all)")
    show.add_argument("--results", type=Path, metavar="RESULTS.json", help="predictions in the YouTube-VIS format")
    show.add_argument(
        "--min-score", type=float, default=0.3, metavar="S", help="least score of the predictions drawn (default: 0.3)"
    )
    show.add_argument("--scale", type=float, metavar="S", help="enlargement (default: to a width of 320 pixels)")
    for option in ("height", "width", "length", "num-categories"):
        show.add_argument(f"--{option}", type=int, metavar="N", help="synthetic data only; default: the preset's")
    show.add_argument("--seed", type=int, default=0, metavar="N", help="synthetic data only; default: 0")
    show.set_defaults(run=_show)


def _add_msda(commands: argparse._SubParsersAction) -> None:
    # The benchmark has its own parser: here every word is an argument for it, also those that begin with a hyphen.
    msda = commands.add_parser(
        "msda", help="deformable attention, against everybody else who computes it", prefix_chars="\n", add_help=False
    )
    msda.add_argument("arguments", nargs="*")
    msda.set_defaults(run=_msda)


def _evaluate(options: argparse.Namespace) -> int:
    from vislab.metrics import evaluate

    names = tuple(name.strip() for name in options.metrics.split(",") if name.strip())
    frame = evaluate(options.ground_truth, options.results, metrics=names)
    if options.csv is not None:
        _write(options.csv, frame.to_csv(index=False, lineterminator="\n"))
    if options.json is not None:
        records = [{name: _json_value(value) for name, value in record.items()} for record in frame.to_dict("records")]
        _write(options.json, json.dumps(records, indent=1, allow_nan=False) + "\n")
    Console().print(_numbers_table(frame))
    return 0


def _check(options: argparse.Namespace) -> int:
    from vislab.data.check import check

    print("\n".join(check(options.path).lines()))
    return 0


def _synth(options: argparse.Namespace) -> int:
    from vislab.data import DatasetConfig
    from vislab.data.synthetic import SyntheticVideos
    from vislab.data.synthetic.export import export

    config = DatasetConfig(
        options.name, options.num_videos, options.height, options.width, options.length, options.num_categories,
        options.seed,
    )  # fmt: skip
    for split in ("train", "valid") if options.split == "both" else (options.split,):
        print(export(SyntheticVideos(config, split), options.out, lossless=options.lossless))
    return 0


def _show(options: argparse.Namespace) -> int:
    from vislab.data import DatasetConfig, load_dataset
    from vislab.data.excerpt import excerpt, find_videos
    from vislab.metrics.inputs import load_json, read_ground_truth, read_results
    from vislab.report.show import Drawing, write_animation, write_sheets

    drawing = Drawing(options.frames, options.scale, options.min_score)
    shape = (options.height, options.width, options.length, options.num_categories, options.seed)
    dataset = load_dataset(DatasetConfig(options.dataset, None, *shape), options.split)
    animated = options.out.suffix == ".gif"
    if options.videos is not None:
        indices = find_videos(dataset, options.videos)
    else:
        first = (1 if animated else 4) if options.first is None else options.first
        indices = list(range(len(dataset)))[: max(0, first)]
    if not indices or (animated and len(indices) > 1):
        expected = "1, as --out is a .gif" if animated else "at least 1"
        raise UserError(f"--videos and --first choose {len(indices)} videos, expected {expected}")
    truth = read_ground_truth(excerpt(dataset, indices), dataset.name)
    results = None
    if options.results is not None:
        results = read_results(load_json(options.results), truth, str(options.results))
    clips = [_clip(dataset, index, truth, results, drawing) for index in indices]
    if animated:
        print(write_animation(clips[0], options.out, drawing))
    else:
        print("\n".join(map(str, write_sheets(clips, options.out, drawing))))
    return 0


def _msda(options: argparse.Namespace) -> int:
    return load_benchmark().main(options.arguments)


def load_benchmark() -> ModuleType:
    """The package in kernels/deform_attn/bench, by its path: kernels/ holds sources and is not importable."""
    name = "deform_attn_bench"
    if name in sys.modules:
        return sys.modules[name]
    if not (BENCHMARK / "__init__.py").is_file():
        raise UserError(
            f"the benchmark comes with a checkout of vislab, in kernels/deform_attn/bench; not: {BENCHMARK}"
        )
    spec = importlib.util.spec_from_file_location(name, BENCHMARK / "__init__.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _clip(
    dataset: VideoDataset, index: int, truth: GroundTruth, results: list[Instance] | None, drawing: Drawing
) -> Clip:
    from vislab.report.show import Clip
    from vislab.report.tracks import predicted_tracks, true_tracks

    info = dataset.info(index)
    labelled = true_tracks(truth, info.id)
    caption = f"{dataset.name}, video {info.name}: {info.width} x {info.height}, {_counted(info.length, 'frame')}"
    caption += f"; {_counted(len(labelled), 'labelled instance')}"
    predictions = None
    if results is not None:
        predictions = predicted_tracks(truth, results, info.id, drawing.min_score)
        caption += f", {_counted(len(predictions), 'prediction')} with score >= {drawing.min_score:g}"
    return Clip(info.name, caption, info.length, partial(dataset.frames, index), labelled, predictions)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _doctor(options: argparse.Namespace) -> int:
    import torch

    from vislab.ops.doctor import report
    from vislab.records import environment

    found = environment()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    lines = {
        "python": found["python"],
        "platform": found["platform"],
        "processor": f"{found['processor']}, {found['cores']} cores",
        "CUDA device": device,
        **{name: version or "not installed" for name, version in found["packages"].items()},
    }
    lines |= {f"{op} {path}": f"{'live' if live else 'off'}: {why}" for op, path, live, why in report()}
    width = max(map(len, lines))
    print("\n".join(f"{name:{width}}  {value}" for name, value in lines.items()))
    return 0


def _numbers_table(frame: pd.DataFrame) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "scope", "value", "95 % interval", "n"):
        table.add_column(name, justify="left" if name in ("metric", "scope") else "right")
    for metric, scope, value, low, high, count in frame.itertuples(index=False):
        known = not math.isnan(value)
        interval = f"{low:.4f} to {high:.4f}" if known and not math.isnan(low) else ""
        table.add_row(metric, scope, f"{value:.4f}" if known else "undefined", interval, str(count))
    return table


def _json_value(value: object) -> object:
    """Undefined is null."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _write(path: Path, text: str) -> None:
    from vislab.records import atomic_path

    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


if __name__ == "__main__":
    sys.exit(main())
