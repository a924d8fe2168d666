"""The `vislab` command: measure results, look at predictions, look after data, look at the installation.

Every subcommand says with --help what it takes. A mistake gets one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vislab.errors import UserError

if TYPE_CHECKING:
    from vislab.data import VideoDataset
    from vislab.data.frame_source import FrameSource
    from vislab.engine.config import EvalConfig
    from vislab.engine.predict import VideoPredictor
    from vislab.engine.saved_model import SavedModel
    from vislab.metrics.inputs import GroundTruth, Instance
    from vislab.report.videos.show import Clip, Drawing

FORMATTER = argparse.RawDescriptionHelpFormatter
BENCHMARK = Path(__file__).resolve().parents[1] / "kernels" / "deform_attn" / "bench"
EVALUATION_BENCHMARK = Path(__file__).resolve().parents[1] / "kernels" / "rle" / "bench"


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
    _add_report(commands)
    _add_predict(commands)
    data = commands.add_parser("data", help="check or draw a data set, make a synthetic one", formatter_class=FORMATTER)
    data_commands = data.add_subparsers(metavar="COMMAND", required=True)
    _add_check(data_commands)
    _add_synth(data_commands)
    _add_show(data_commands)
    bench = commands.add_parser(
        "bench", help="measure the speed of the kernels and of the evaluation", formatter_class=FORMATTER
    )
    benchmarks = bench.add_subparsers(metavar="COMMAND", required=True)
    _add_benchmark(benchmarks, "msda", _msda, "deformable attention, against everybody else who computes it")
    _add_benchmark(benchmarks, "evaluate", _bench_evaluate, "the evaluation, against the tools it agrees with")
    doctor = commands.add_parser("doctor", help="versions, devices, and which paths of the kernels are live")
    doctor.set_defaults(run=_doctor)
    return result


EVALUATE = """\
Measure results in the YouTube-VIS format: every number with its 95 % interval over videos.

metrics:
  ap          AP, AP50, AP75, AR, by area, as the YouTube-VIS evaluator counts them; by track length;
              by occlusion if the ground truth has it: are objects found, segmented, named?
  mot         IDF1, MOTA, identity switches ... on boxes, as in the IFR paper, and on masks:
              does each object keep its identity from frame to frame?
  hota        HOTA on masks, as TrackEval has it: detection (DetA) and association (AssA) in balance
  errors      how much AP50 each type of error costs (TIDE, TIVE): wrong category, poor masks,
              wrong extent in time or identity, duplicate, background, miss
  visibility  IoU of masks where objects are evident or faint; needs opacities (synthetic data)

A difference that the videos cannot support is called that: see --compare."""
EVALUATE_EXAMPLES = """\
examples:
  vislab evaluate valid.json results.json
  vislab evaluate valid.json results.json --metrics ap --per-category --csv numbers.csv
  vislab evaluate valid.json ours.json --compare baseline.json --plots figures
  vislab evaluate valid.json ours-0.json ours-1.json ours-2.json --compare base-0.json base-1.json base-2.json

--csv and --json have one record per number: metric, scope, value, ci_low, ci_high, n. Values there are fractions (and
counts), in the tables percent; undefined is empty or null."""


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure YouTube-VIS results against a ground truth, compare two models",
        description=EVALUATE,
        epilog=EVALUATE_EXAMPLES,
        formatter_class=FORMATTER,
    )
    add = evaluate.add_argument
    add("ground_truth", type=Path, metavar="GT.json", help="videos, categories and annotations")
    add(
        "results", type=Path, nargs="+", metavar="RESULTS.json",
        help="a list of scored tracks; several files: runs of one model, one per training seed, whose mean is shown",
    )  # fmt: skip
    add("--metrics", default="ap,mot,hota,errors", metavar="NAMES", help="any of the above (default: %(default)s)")
    add("--per-category", action="store_true", help="AP and AR of every category as well")
    add("--per-video", action="store_true", help="MOT consistency and HOTA of every video as well")
    add(
        "--compare", type=Path, nargs="+", default=[], metavar="OTHER.json",
        help="results of another model: differences, whether the data support them, and how many videos or seeds "
        "would be needed to tell",
    )  # fmt: skip
    add("--csv", type=Path, metavar="F", help="write the numbers as CSV")
    add("--json", type=Path, metavar="F", help="write the numbers as JSON")
    add("--differences", type=Path, metavar="F", help="write the comparison as CSV or JSON (by the suffix)")
    add("--plots", type=Path, metavar="DIR", help="draw curves, errors and AP by occlusion as PDF and PNG")
    add(
        "--score-threshold", type=float, default=0.3, metavar="X",
        help="least score of a detection that mot and hota see (default: %(default)s); set it on other videos",
    )  # fmt: skip
    add(
        "--areas", choices=("video", "image"), default="video",
        help="ap divides small, medium and large objects at 128 x 128 and 256 x 256 pixels as YouTube-VIS does "
        "(video, the default), or at 32 x 32 and 96 x 96 as COCO does (image)",
    )  # fmt: skip
    add("--class-aware", action="store_true", help="mot and hota match within categories (default: across)")
    add("--replicates", type=int, default=1000, metavar="N", help="of the bootstrap (default: %(default)s)")
    add("--workers", type=int, metavar="N", help="processes (default: one per core, 1 for little data)")
    evaluate.set_defaults(run=_evaluate)


def _add_report(commands: argparse._SubParsersAction) -> None:
    report = commands.add_parser(
        "report",
        help="write a page about finished runs: numbers, curves, errors, videos, where it all comes from",
        description="Write one HTML page about runs of the store; it holds all that it shows and opens offline. Runs\n"
        "that differ in their seed only are one model, with its spread; other models are compared with the first.",
        epilog="examples:\n"
        "  vislab report 0db48bd4                                   the run whose key begins so, with its evaluations\n"
        "  vislab report runs/KEY/eval/KEY --out run.html           one evaluation of a run, by its folder\n"
        "  vislab report KEY KEY KEY --out models.html --videos 4   several seeds, or several models\n\n"
        "A table's page, about all runs behind it, is made by reproduce_table.py --html-report.",
        formatter_class=FORMATTER,
    )
    add = report.add_argument
    add("named", nargs="+", metavar="RUN", help="a run's folder, an evaluation's, or the beginning of a run's key")
    add("--out", type=Path, metavar="F.html", help="default: report.html in the run's folder; needed for several runs")
    add("--videos", type=int, default=2, metavar="N", help="best and worst videos to show of a data set, N each "
        "(default: 2)")  # fmt: skip
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where keys are looked for (default: runs)")
    report.set_defaults(run=_report)


PREDICT = """\
Run a model over a video of any length and draw what it finds, frame by frame: MP4 (H.264), GIF, or a folder of PNG
files, as --out ends. An identity keeps its number and its colour. Frames are read when they are needed and written
when nothing later can change them, so that memory does not grow with the video (but for --json).

Models of clips see overlapping clips, stitched together; models of frames follow the video online."""
PREDICT_EXAMPLES = """\
examples:
  vislab predict street.mp4 --checkpoint runs/KEY --out street-found.mp4
  vislab predict FOLDER --checkpoint runs/KEY/weights.safetensors --out found.gif --fps 12 --min-score 0.5
  vislab predict 3 --data synthetic-ovis --checkpoint runs/KEY --out frames --json results.json
  vislab predict bear --data PATH --checkpoint runs/KEY --out bear.mp4
  vislab predict street.mp4 --checkpoint devis_r50.pth --model devis --out found.mp4 --categories instances.json

A run of the store says itself what model it is, what its classes are called and at which size it was evaluated. For
other weights --model, --scale and perhaps --num-classes say it; a .pth or .pkl is taken for the model's release."""


def _add_predict(commands: argparse._SubParsersAction) -> None:
    predict = commands.add_parser(
        "predict",
        help="run a model over a video and draw what it finds",
        description=PREDICT,
        epilog=PREDICT_EXAMPLES,
        formatter_class=FORMATTER,
    )
    add = predict.add_argument
    add(
        "video", metavar="VIDEO",
        help="a video file, a .gif, a folder of frames; with --data, the name or position of a held-out video",
    )  # fmt: skip
    add("--checkpoint", type=Path, required=True, metavar="F", help="a run's folder, or a file of weights")
    add("--out", type=Path, required=True, metavar="FILE.mp4|FILE.gif|FOLDER", help="what to write")
    add("--json", type=Path, metavar="F", help="write the instances of the whole video as YouTube-VIS results, too")
    add("--data", metavar="NAME|PATH", help="the data set that VIDEO is one of: a synthetic preset, a folder, a file")
    drawing = predict.add_argument_group("what is drawn").add_argument
    drawing("--min-score", type=float, default=0.3, metavar="S", help="least score in a frame (default: %(default)s)")
    drawing("--max-instances", type=int, metavar="N", help="the N best of each frame (default: all)")
    drawing("--enlarge", type=float, metavar="S", help="pixels per pixel (default: 1, more for videos below 320)")
    drawing("--fps", type=float, metavar="X", help="frames per second (default: as the video has; of images, 6)")
    seen = predict.add_argument_group("what the model sees").add_argument
    seen("--size", type=int, metavar="N", help="pixels of the shorter side (default: as the run was evaluated)")
    seen("--clip-length", type=int, metavar="N", help="frames of a clip (default: as the run was evaluated)")
    seen("--clip-stride", type=int, metavar="N", help="frames from clip to clip (default: as the run was evaluated)")
    seen("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    weights = predict.add_argument_group("weights that do not say what they are").add_argument
    weights("--model", metavar="NAME", help="as vislab.build_model knows it: taformer, devis, ifr, tevit, idol ...")
    weights("--scale", choices=("paper", "small", "tiny", "smoke"), help="default: paper")
    weights("--num-classes", type=int, metavar="N", help="default: as the weights have, of a release the model's")
    weights("--release", metavar="NAME", help="whose release it is (default: the model's; none for .safetensors)")
    weights("--categories", metavar="DATASET", help="the data set that its classes are of (default: numbers)")
    predict.set_defaults(run=_predict)


def _add_check(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser(
        "check",
        help="read everything in a data set and say what is in it, or what is wrong and where",
        description="Read all of a data set. Exit code 0 and a summary, or 2 and the first fault.",
    )
    check.add_argument("path", type=Path, metavar="PATH", help="a folder or an annotation file")
    check.set_defaults(run=_check)


class _HelpWithDials(argparse.Action):
    """--help that ends with the dials as their class explains them; read only then, to keep the command quick."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from vislab.data.synthetic.config import Dials

        dials = inspect.cleandoc(Dials.__doc__ or "").partition("\n\n")[2]
        parser.epilog = f"{parser.epilog}\n\ndials, appended to a preset's name as +DIAL=VALUE:\n{indent(dials, '  ')}"
        parser.print_help()
        parser.exit()


def _add_synth(commands: argparse._SubParsersAction) -> None:
    synth = commands.add_parser(
        "synth",
        help="write a synthetic data set in the YouTube-VIS layout, or in COCO's",
        description="Write videos of the synthetic benchmark as images and annotations, in the YouTube-VIS layout or,\n"
        "with --layout coco, videos of one frame in COCO's.",
        epilog="examples:\n"
        "  vislab data synth synthetic-ytvis19 --out clean --num-videos 20\n"
        "  vislab data synth synthetic-ovis+lookalike=0.5 --out crowd --split valid --height 192 --width 320\n"
        "  vislab data synth synthetic-coco --out stills --layout coco --num-videos 100",
        formatter_class=FORMATTER,
        add_help=False,
    )
    synth.add_argument("-h", "--help", nargs=0, action=_HelpWithDials, help="show this help message and exit")
    synth.add_argument("name", metavar="NAME", help="a preset, with dials: synthetic-ytvis19+faint=0.1")
    synth.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    synth.add_argument("--split", choices=("train", "valid", "both"), default="both", help="default: both")
    for option in ("num-videos", "height", "width", "length", "num-categories"):
        synth.add_argument(f"--{option}", type=int, metavar="N", help="default: as the preset has it")
    synth.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    synth.add_argument(
        "--layout", choices=("youtube-vis", "coco"), default="youtube-vis", help="default: youtube-vis; coco: images"
    )
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


def _add_benchmark(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], int], about: str
) -> None:
    # A benchmark has its own parser: here every word is an argument for it, also those that begin with a hyphen.
    benchmark = commands.add_parser(name, help=about, prefix_chars="\n", add_help=False)
    benchmark.add_argument("arguments", nargs="*")
    benchmark.set_defaults(run=run)


def _evaluate(options: argparse.Namespace) -> int:
    try:
        _evaluate_files(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _evaluate_files(options: argparse.Namespace) -> None:
    from vislab.metrics.evaluation import Plan, checked_metrics
    from vislab.metrics.measure import Settings
    from vislab.report.evaluation.evaluate import Outputs, evaluate_files

    names = checked_metrics([name.strip() for name in options.metrics.split(",") if name.strip()])
    settings = Settings(names, options.score_threshold, class_agnostic=not options.class_aware, areas=options.areas)
    plan = Plan(settings, options.per_category, options.per_video, options.replicates)
    outputs = Outputs(options.csv, options.json, options.differences, options.plots)
    evaluate_files(
        options.ground_truth, options.results, options.compare, plan, outputs,
        workers=options.workers, console=Console(),
    )  # fmt: skip


def _report(options: argparse.Namespace) -> int:
    from vislab.report.runs.run_report import write_run_report

    console = Console(stderr=True)
    with console.status("") as status:
        print(write_run_report(options.named, options.runs, options.out, options.videos, status.update))
    return 0


def _predict(options: argparse.Namespace) -> int:
    try:
        _predict_video(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _predict_video(options: argparse.Namespace) -> None:
    from vislab.engine.infer import results_of
    from vislab.records import write_json
    from vislab.report.videos.frame_bar import frame_bar
    from vislab.report.videos.video_files import check_place, check_video_place, write_overlays
    from vislab.report.videos.video_overlays import OverlayArtist

    check_video_place(options.out)
    if options.json is not None:
        check_place("--json", options.json)
    saved, predictor = _predictor(options)
    source = _frames(options, saved.evaluation)
    fps = source.speed(options.fps)
    artist = OverlayArtist(
        [category.name for category in saved.categories],
        min_score=options.min_score, max_instances=options.max_instances, scale=options.enlarge,
    )  # fmt: skip
    frames = ((frame, result.instances) for frame, result in predictor.follow(source.read()))
    with frame_bar(source.length) as advance:
        count = write_overlays(frames, artist, options.out, fps, advance)
    print(f"{options.out}: {_counted(count, 'frame')}, {_counted(artist.num_identities, 'instance')}")
    if options.json is not None:
        write_json(options.json, results_of(predictor.instances(), saved.categories, source.video_id))
        print(options.json)


def _predictor(options: argparse.Namespace) -> tuple[SavedModel, VideoPredictor]:
    """The model, and what leads it over a video as the options say."""
    from vislab.data import DatasetConfig, load_dataset
    from vislab.engine.device import resolve_device
    from vislab.engine.predict import VideoPredictor, shown_evaluation
    from vislab.engine.saved_model import load_saved_model

    device = resolve_device(options.device)
    named = options.categories
    for option in ("scale", "num_classes", "release"):
        if options.model is None and getattr(options, option) is not None:
            raise UserError(f"--{option.replace('_', '-')} needs --model: without it, the checkpoint is that of a run")
    saved = load_saved_model(
        options.checkpoint, device, name=options.model, scale=options.scale or "paper", num_classes=options.num_classes,
        release=options.release,
        categories=() if named is None else load_dataset(DatasetConfig(named), "valid").categories,
    )  # fmt: skip
    evaluation = shown_evaluation(saved.evaluation, options.size, options.max_instances)
    return saved, VideoPredictor(
        saved.model, evaluation, len(saved.categories), device,
        clip_length=options.clip_length, clip_stride=options.clip_stride, keep_tracks=options.json is not None,
    )  # fmt: skip


def _frames(options: argparse.Namespace, evaluation: EvalConfig) -> FrameSource:
    """The video; synthetic ones have the size and length that the run was evaluated on."""
    from vislab.data import DatasetConfig, load_dataset
    from vislab.data.excerpt import find_videos
    from vislab.data.frame_source import dataset_video, open_frames

    if options.data is None:
        return open_frames(Path(options.video))
    synthetic = all(name.startswith("synthetic") for name in (options.data, evaluation.data.name))
    config = replace(evaluation.data, name=options.data) if synthetic else DatasetConfig(options.data)
    dataset = load_dataset(config, "valid")
    indices = find_videos(dataset, options.video)
    if len(indices) > 1:
        raise UserError(f"'{options.video}' names {len(indices)} videos of {dataset.name}, expected 1")
    return dataset_video(dataset, indices[0])


def _check(options: argparse.Namespace) -> int:
    from vislab.data.check import check

    print("\n".join(check(options.path).lines()))
    return 0


def _synth(options: argparse.Namespace) -> int:
    from vislab.data import DatasetConfig
    from vislab.data.synthetic import SyntheticVideos
    from vislab.data.synthetic.export import export, export_images

    config = DatasetConfig(
        options.name, options.num_videos, options.height, options.width, options.length, options.num_categories,
        options.seed,
    )  # fmt: skip
    write = export_images if options.layout == "coco" else export
    for split in ("train", "valid") if options.split == "both" else (options.split,):
        print(write(SyntheticVideos(config, split), options.out, lossless=options.lossless))
    return 0


def _show(options: argparse.Namespace) -> int:
    from vislab.data import DatasetConfig, load_dataset
    from vislab.data.excerpt import excerpt, find_videos
    from vislab.metrics.inputs import load_json, read_ground_truth, read_results
    from vislab.report.videos.show import Drawing, write_animation, write_sheets

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


def _bench_evaluate(options: argparse.Namespace) -> int:
    return load_benchmark("rle").main(options.arguments)


def load_benchmark(kernel: str = "deform_attn") -> ModuleType:
    """The package in kernels/KERNEL/bench, by its path: kernels/ holds sources and is not importable."""
    name, folder = f"{kernel}_bench", BENCHMARK if kernel == "deform_attn" else EVALUATION_BENCHMARK
    if name in sys.modules:
        return sys.modules[name]
    if not (folder / "__init__.py").is_file():
        raise UserError(f"the benchmark comes with a checkout of vislab, in kernels/{kernel}/bench; not: {folder}")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _clip(
    dataset: VideoDataset, index: int, truth: GroundTruth, results: list[Instance] | None, drawing: Drawing
) -> Clip:
    from vislab.report.videos.show import Clip
    from vislab.report.videos.tracks import predicted_tracks, true_tracks

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


if __name__ == "__main__":
    sys.exit(main())
