"""Draw a paper's figures from a trained model or from a table's report: vector PDF and PNG.

examples:
  plot_figures.py --list                                    every figure of every paper
  plot_figures.py devis --scale tiny                        all figures, from the run that T1's last row trained
  plot_figures.py devis Fig2 --video 3 --first-frame 4      another video of the data set, from its fifth frame on
  plot_figures.py devis A5 --data PATH --video bear         the same model on a video of your own data set
  plot_figures.py devis A5 --video FOLDER                   the same model on a folder of frames
  plot_figures.py devis --scale paper --data PATH --checkpoint devis_r50.pth     released weights
  plot_figures.py taformer Fig5 --video 1 --seed 1          two models compared: finished runs that differ in one part
  plot_figures.py ifr F4 --scale tiny                       the curve of a table that was run
  plot_figures.py ifr Fig1 Fig5 --video 3                   what two rows of a table find, where identities go wrong
  plot_figures.py taformer curves errors costs --table T3   of any table: training curves, errors, AP against costs
  plot_figures.py devis overlays --table T5 --rows 0,3      of any table: what its rows find in one video
  plot_figures.py ifr thresholds --table T3                 of any table: tracking at equal numbers of tracks
  plot_figures.py bench                                     speed of the kernels, from reports/bench/*.csv

The model is that of a finished run in the store (see reproduce_table.py), or --checkpoint. Figures of tables are drawn
from reports/SCALE/PAPER/TABLE.csv, and those of any table from the runs behind it as well. All are written to
reports/SCALE/PAPER/figures/NAME.pdf and NAME.png, benchmarks beside their files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import devis
import devis_figures
import ifr
import ifr_figures
import refinevis
import refinevis_figures
import taformer
import taformer_figures
import tevit
import torch
from curve_figures import CURVES
from figures import PaperFigure, Setting, TableFigure
from script_parser import add_device, add_folders, script_parser
from store_figures import ANY_TABLE, Choice, StoreFigure
from torch import nn

from vislab.data import DatasetConfig, VideoDataset, load_dataset
from vislab.data.excerpt import find_videos
from vislab.data.frame_folder import FrameFolder
from vislab.engine.config import RunConfig
from vislab.engine.device import resolve_device
from vislab.engine.run import load_trained
from vislab.engine.saved_model import model_of_weights
from vislab.errors import UserError
from vislab.models.official import load_official
from vislab.records import RunStore
from vislab.report.figures.benchmark_plots import draw_benchmark, read_benchmark
from vislab.report.figures.style import PLOT, write_figure
from vislab.report.tables.files import read_table, table_path
from vislab.study.declare import SCALES, Paper, Row, Table, apply_changes
from vislab.study.plan import dataset_label, on_dataset, plan_table

Figures = Mapping[str, PaperFigure | TableFigure]
Declared = Mapping[str, PaperFigure | TableFigure | StoreFigure]  # a StoreFigure of a chosen store is a TableFigure
PAPERS: dict[str, tuple[Paper, Declared]] = {
    "taformer": (taformer.PAPER, {**CURVES["taformer"], **taformer_figures.FIGURES}),
    "ifr": (ifr.PAPER, {**CURVES["ifr"], **ifr_figures.FIGURES}),
    "devis": (devis.PAPER, devis_figures.FIGURES),
    "tevit": (tevit.PAPER, CURVES["tevit"]),
    "refinevis": (refinevis.PAPER, {**CURVES["refinevis"], **refinevis_figures.FIGURES}),
}


class FigureModel(NamedTuple):
    """trained_on: data set of the finished run, where the figure names none. release: of the paper's weights, None
    without any."""

    trained_on: str
    release: str | None


BENCHMARKS = "bench"  # in place of a paper

MODELS = {  # of papers with a PaperFigure
    "taformer": FigureModel(taformer.CLEAN, None),
    "devis": FigureModel(devis.CLEAN, "devis"),
    "refinevis": FigureModel(refinevis.CROWDS, None),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 2 for a mistake of the user."""
    options = parser().parse_intermixed_args(arguments)  # figures may be named after options
    try:
        if options.list:
            for key, (paper, figures) in PAPERS.items():
                print(f"{key}: {paper.title}")
                print("\n".join(f"  {name:6} {figure.caption}" for name, figure in figures.items()))
            print("of any table, with --table:")
            print("\n".join(f"  {name:10} {figure.caption}" for name, figure in ANY_TABLE.items()))
            return 0
        if options.paper == BENCHMARKS:
            return draw_benchmarks(options)
        paper, figures = chosen(options)
        ready: tuple[PaperFigure, Setting] | None = None  # what was set up last, which the next one often needs too
        folder = options.out or options.reports / options.scale / paper.key / "figures"
        for name, figure in figures.items():
            if isinstance(figure, TableFigure):
                drawn = figure.draw(read_table(_report(options, paper, figure)))
            else:
                if ready is None or not figure.same_models(ready[0]):
                    ready = figure, set_up(options, paper, figure)
                drawn = figure.draw(ready[1])
            for path in write_figure(drawn, folder, name):
                print(path)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    result = script_parser("plot_figures.py", __doc__)
    add = result.add_argument
    add("paper", nargs="?", metavar="PAPER", help=f"one of: {', '.join(PAPERS)}; or {BENCHMARKS}")
    add("figures", nargs="*", metavar="FIGURE", help="such as Fig2 (default: all figures of the paper; see --list)")
    add("--list", action="store_true", help="list the figures of every paper")
    add("--table", metavar="TABLE", help=f"of {', '.join(ANY_TABLE)}: the table that they are about, such as T3")
    add("--rows", metavar="I,J",
        help="of overlays, thresholds: rows of the table (default: all with runs); two for ifr Fig1, Fig5")  # fmt: skip
    add("--min-score", type=float, metavar="X",
        help="of overlays: least score of a track (default: each row's best, as many as the video has objects)"
    )  # fmt: skip
    add("--scale", choices=SCALES, default="tiny", help="of the model (default: tiny)")
    add("--trained-on", metavar="NAME|PATH",
        help="data set of the finished runs (default: the one that the figure is about, else the paper's clean one)"
    )  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of the finished run (default: 0)")
    add("--checkpoint", type=Path, metavar="FILE",
        help="weights in place of a finished run: .safetensors of the scale's model, or a release as .pth")  # fmt: skip
    add("--data", metavar="NAME|PATH", help="where the video comes from (default: what the model was trained on)")
    add("--video", metavar="NAME|N|FOLDER",
        help="name or position in the held-out videos, or a folder of frames "
        "(default: the first; refinevis Fig3 looks in all, taformer Fig6 for two objects of one category, ifr Fig1 and "
        "Fig5 for what goes wrong; overlays are of the video of median AP)")  # fmt: skip
    add("--first-frame", type=int, default=0, metavar="N", help="where the clip begins, from 0 (default: 0)")
    add_device(result)
    add("--out", type=Path, metavar="DIR", help="default: reports/SCALE/PAPER/figures")
    add_folders(result, reports="where tables lie (default: reports)")
    return result


def chosen(options: argparse.Namespace) -> tuple[Paper, Figures]:
    """The paper, and those of its figures that were asked for. Raises UserError for one that does not exist, or that
    cannot be drawn from --checkpoint."""
    if options.paper not in PAPERS:
        found = "no PAPER given" if options.paper is None else f"no figures of {options.paper!r}"
        raise UserError(f"{found}; expected one of {', '.join(PAPERS)} (or --list)")
    paper, figures = PAPERS[options.paper]
    wanted: dict[str, PaperFigure | TableFigure] = {}
    store, choice = RunStore(options.runs), _choice(options)
    for name in options.figures or figures:
        known = [each for each in figures if each.lower() == name.lower()]
        if known:
            own = figures[known[0]]
            wanted[known[0]] = own.of(own.table, store, choice) if isinstance(own, StoreFigure) else own
        elif name.lower() in ANY_TABLE:
            if options.table is None:
                raise UserError(f"{name}: --table is missing: say of which table of {paper.key}, such as --table T3")
            table = paper.table(options.table).id
            wanted[f"{table}-{name.lower()}"] = ANY_TABLE[name.lower()].of(table, store, choice)
        else:
            names = ", ".join([*figures, *ANY_TABLE])
            raise UserError(f"{paper.key} has no figure {name!r}; its figures are {names}")
    if options.checkpoint is not None:
        _from_one_model(wanted, named=bool(options.figures))
    return paper, wanted


def _from_one_model(figures: Figures, *, named: bool) -> None:
    """Raises UserError for a figure that --checkpoint cannot be drawn in. named: whether the user asked for these."""
    for name, figure in figures.items():
        if isinstance(figure, TableFigure) and named:
            raise UserError(f"{name} is drawn from a table's report and its runs, expected no --checkpoint")
        if isinstance(figure, PaperFigure) and figure.against is not None:
            raise UserError(
                f"{name} compares two finished runs of the store, expected no --checkpoint, which is one model"
            )


def _choice(options: argparse.Namespace) -> Choice:
    """What of a table is drawn. Raises UserError for rows that are no numbers."""
    rows = None
    if options.rows is not None:
        if not all(part.strip().isdecimal() for part in options.rows.split(",")):
            raise UserError(f"--rows is {options.rows!r}, expected row numbers separated by commas, such as 0,3")
        rows = tuple(dict.fromkeys(int(part) for part in options.rows.split(",")))
    dataset = None if options.trained_on is None else dataset_label(options.trained_on)
    return Choice(dataset, rows, options.seed, options.video, options.min_score)


def draw_benchmarks(options: argparse.Namespace) -> int:
    """Beside the benchmarks' files, or in --out. Raises UserError if there are none."""
    folder = options.reports / "bench"
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UserError(f"{folder}: there is no benchmark; make one with: vislab bench msda")
    for file in files:
        for path in write_figure(draw_benchmark(read_benchmark(file)), options.out or folder, file.stem, PLOT):
            print(path)
    return 0


def _report(options: argparse.Namespace, paper: Paper, figure: TableFigure) -> Path:
    """Raises UserError that says how to make it, if it is not there."""
    path: Path = table_path(options.reports, options.scale, paper.key, figure.table)
    if not path.is_file():
        command = f"reproduce_table.py {paper.key} {figure.table} --scale {options.scale}"
        raise UserError(f"{path}: there is no such report; make it with: {command}")
    return path


def set_up(options: argparse.Namespace, paper: Paper, figure: PaperFigure) -> Setting:
    """The models and the video. Raises UserError if there is no such run, file, data set, video or frame."""
    if options.first_frame < 0:
        raise UserError(f"--first-frame is {options.first_frame}, expected 0 or more")
    device = resolve_device(options.device)
    usual = MODELS[paper.key]
    trained_on = options.trained_on or figure.trained_on or usual.trained_on
    run: RunConfig
    model: nn.Module
    other: nn.Module | None = None
    store = RunStore(options.runs) if options.checkpoint is None else None
    if store is not None:
        find = partial(finished_run, options, paper, trained_on, only=figure.against is not None)
        run = find(figure.changes)
        model = load_trained(run, store, device)
        if figure.against is not None:
            other = load_trained(find({**figure.changes, **figure.against}), store, device)
    else:
        run, model = from_checkpoint(options.checkpoint, paper.base(options.scale), usual.release, device)
    dataset = video_source(options, run, trained_on)
    named = options.video is not None
    (video,) = find_videos(dataset, options.video) if named and not _is_folder(options) else [0]
    return Setting(model, run, dataset, video, options.first_frame, device, named, store, other)


def finished_run(
    options: argparse.Namespace, paper: Paper, trained_on: str, changes: Mapping[str, Any], *, only: bool
) -> RunConfig:
    """The paper's base with changes, on this data set. only: no weights of a file can take its place.

    Raises UserError that says how to train it, if the store has it not.
    """
    table = Table("figures", "", ("AP",), (Row(0, "drawn", changes),), (trained_on,))
    run: RunConfig = plan_table(paper, table, options.scale, seeds=options.seed + 1)[-1].config
    if RunStore(options.runs).trained(run.train_key) is None:
        row = _training_row(paper, options.scale, changes)
        raise UserError(
            f"{options.runs}: no finished training of {paper.key} at scale {options.scale} on {trained_on}, seed "
            f"{options.seed}; make it with: reproduce_table.py {paper.key} {row} --scale {options.scale} --data "
            f"{trained_on} --seeds {options.seed + 1}{'' if only else ', or give --checkpoint FILE'}"
        )
    return run


def _training_row(paper: Paper, scale: str, changes: Mapping[str, Any]) -> str:
    """Table and row that train the paper's base with these changes, as options of reproduce_table.py."""
    key = apply_changes(paper.base(scale), changes, scale).train_key
    places = (
        f"{table.id} --rows {row.index}"
        for table in paper.tables
        for row in table.rows
        if row.runs_at(scale) and paper.configuration(table, row, scale).train_key == key
    )
    return next(places)


def from_checkpoint(
    path: Path, base: RunConfig, release: str | None, device: torch.device
) -> tuple[RunConfig, nn.Module]:
    """The base with the weights of a file. Raises UserError for a file that cannot be read or does not fit."""
    if not path.is_file():
        raise UserError(f"--checkpoint {path}: there is no such file")
    if path.suffix != ".safetensors":
        if release is None:
            raise UserError(f"--checkpoint {path}: expected .safetensors, as the paper's weights were not released")
        model = load_official(base.model.build(), path, release)
        return base, model.to(device).eval()
    config, model = model_of_weights(base.model, path)
    return replace(base, model=config), model.to(device).eval()


def video_source(options: argparse.Namespace, run: RunConfig, trained_on: str) -> VideoDataset:
    """The held-out videos to draw on: the run's own, or those of --data; or a folder of frames."""
    data = on_dataset(run, options.data or trained_on).evaluation.data
    dataset = load_dataset(data if data.name.startswith("synthetic") else DatasetConfig(data.name), "valid")
    return FrameFolder(options.video, dataset.categories) if _is_folder(options) else dataset


def _is_folder(options: argparse.Namespace) -> bool:
    """Whether --video is the path of a folder; with --data, and as a number, it is a video of the data set."""
    video = options.video
    return video is not None and options.data is None and not video.isdecimal() and Path(video).is_dir()


if __name__ == "__main__":
    sys.exit(main())
