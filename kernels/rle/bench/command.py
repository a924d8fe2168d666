"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import gc
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from vislab import native_rle
from vislab.report.benchmark_file import processor_name, slug, stamp, update_rows

from . import made
from .cases import NAMES, Case, Numbers, make_case

DESCRIPTION = f"""\
Time the evaluation of a results file against the tools that compute the same numbers, after comparing the numbers.

Ground truth and results are random, of the size of YouTube-VIS 2019's validation set: {made.VIDEOS} videos of
{made.FRAMES} frames at {made.HEIGHT}x{made.WIDTH}, {made.TRACKS} labelled tracks, {made.PREDICTIONS} predictions a
video. Everybody starts from the two files and uses one core. Competitors take turns; the time is CPU time, the least of
all rounds. Rows go to OUT/evaluate-HARDWARE.csv; those of other cases and sizes stay.

cases:
  ap         the 12 numbers of AP and AR, against Python over pycocotools with the published evaluator's steps
  tracking   HOTA, CLEAR and identity on masks within categories, against TrackEval (compared: HOTA and identity; its
             rule for identity switches is another one)
  mot        IDF1, MOTA ... on boxes, against motmetrics"""


@dataclass(frozen=True)
class Row:
    """The fields are the columns of the CSV."""

    case: str
    videos: int
    competitor: str
    cpu_seconds: float  # the least of all rounds
    spread: float  # range over rounds, divided by the least
    ratio: float  # how many times as fast as the reference
    reference: str
    rounds: int
    kernel: str  # of run-length codes: native or numpy
    date: str  # UTC
    hardware: str
    git: str


COLUMNS = tuple(field.name for field in fields(Row))


class WrongNumberError(Exception):
    """A competitor's number is not the reference's."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 1 if numbers differ. Raises UserError for a mistake in the options."""
    options = _parser().parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        with console.status(f"making {options.videos} videos"):
            files = made.make(Path(temporary), options.videos)
        for name in dict.fromkeys(options.cases):
            case = make_case(name, files, Path(temporary))
            if isinstance(case, str):
                console.print(f"not here: {name}: {case}", highlight=False, soft_wrap=True)
                continue
            try:
                with console.status(name):
                    rows = _measured(case, options)
            except WrongNumberError as error:
                print(f"wrong number, {name} is not written: {error}", file=sys.stderr)
                return 1
            _report(rows, options, console)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "vislab bench evaluate", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", nargs="+", choices=NAMES, default=list(NAMES), metavar="CASE", help="default: all")
    add("--videos", type=_positive, default=made.VIDEOS, metavar="N", help="default: %(default)s")
    add("--rounds", type=_positive, default=3, metavar="N", help="default: %(default)s")
    add("--out", type=Path, default=Path("reports") / "bench", metavar="DIR", help="default: %(default)s")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _measured(case: Case, options: argparse.Namespace) -> list[Row]:
    _compare(case)
    seconds: dict[str, list[float]] = {name: [] for name in case.competitors}
    order = list(case.competitors)
    for _ in range(options.rounds):
        for name in order:
            seconds[name].append(_cpu_seconds(case.competitors[name]))
        order.append(order.pop(0))
    least = {name: min(times) for name, times in seconds.items()}
    about = stamp(processor_name())
    return [
        Row(
            case=case.name,
            videos=options.videos,
            competitor=name,
            cpu_seconds=least[name],
            spread=(max(times) - least[name]) / least[name],
            ratio=least[case.reference] / least[name],
            reference=case.reference,
            rounds=options.rounds,
            kernel="numpy" if native_rle.kernel_for(0) is None else "native",
            **about,
        )
        for name, times in seconds.items()
    ]


def _compare(case: Case) -> None:
    """Also the warm-up. Raises WrongNumberError."""
    found: dict[str, Numbers] = {name: run() for name, run in case.competitors.items()}
    for name, expected in found[case.reference].items():
        for competitor, numbers in found.items():
            same = math.isnan(expected) and math.isnan(numbers[name])
            if not same and not abs(numbers[name] - expected) <= case.tolerance:
                raise WrongNumberError(f"{name} is {numbers[name]!r} by {competitor}, {expected!r} by {case.reference}")


def _cpu_seconds(run: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    run()
    return time.process_time() - start


def _report(rows: Sequence[Row], options: argparse.Namespace, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, side in (
        ("case", "left"),
        ("competitor", "left"),
        ("CPU s", "right"),
        ("spread", "right"),
        ("", "right"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for row in rows:
        ratio = "reference" if row.competitor == row.reference else f"{row.ratio:.1f} times as fast"
        table.add_row(row.case, row.competitor, f"{row.cpu_seconds:.2f}", f"{100 * row.spread:.0f} %", ratio)
    console.print(f"{rows[0].hardware}; run-length codes: {rows[0].kernel}", style="bold", highlight=False)
    console.print(table)
    path = options.out / f"evaluate-{slug(rows[0].hardware)}.csv"
    update_rows(path, COLUMNS, [asdict(row) for row in rows], ["case", "videos"])
    console.print(f"written: {path}", highlight=False, soft_wrap=True)
