"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vislab.errors import UserError
from vislab.report.benchmark_file import slug

from .cases import CASES
from .check import WrongResultError
from .competitors import names
from .machine import hardware
from .rows import print_rows, write_rows
from .run import DTYPES, Findings, Plan, measure
from .timing import Schedule

DESCRIPTION = """\
Time deformable attention against everybody else who computes it, after checking all of them.

A case is checked (output and all gradients against the definition in float64) before it is timed, and written as soon
as it is done; a wrong competitor ends the run with exit code 1 before its case is timed. All competitors of a case take
turns, round by round, in this process. "times as fast" is the median over rounds of the quotient within a round; its
reference is the faster of the grid_sample form and its torch.compile in the same rounds, in float32. "of roofline" is
the least time that the machine's measured copy bandwidth and multiply-add rate allow, divided by the time taken.
"memory" is the peak that a call adds, as a multiple of what it returns. Rows go to OUT/msda-HARDWARE.csv; other cases
in that file stay.

The first run spends most of its time in torch.compile, which keeps its results for later runs."""
EXAMPLES = """\
examples:
  vislab bench msda --cases encoder decoder --threads 2
  vislab bench msda --competitors "vislab cpu" --dtypes float32 bfloat16
  vislab bench msda --quick        does everything work? (its times mean nothing)"""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 1 if a competitor is wrong. Raises UserError for a mistake in the options."""
    options = _parser().parse_args(arguments)
    plan = Plan(
        cases=tuple(dict.fromkeys(options.cases)),
        competitors=tuple(options.competitors),
        dtypes=tuple(dict.fromkeys(options.dtypes)),
        threads=tuple(dict.fromkeys(options.threads)),
        schedule=Schedule(options.rounds, warmups=1 if options.quick else 2),
        memory=options.memory,
        quick=options.quick,
    )
    console = Console()
    console.width = max(console.width, 140)  # a file or a pipe has 80 columns
    for device in _devices(options.device):
        for case in plan.cases:
            try:
                findings = _measured(replace(plan, cases=(case,)), device, console)
            except WrongResultError as error:
                print(f"wrong result, {case} is not written: {error}", file=sys.stderr)
                return 1
            _report(findings, device, options, console)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "vislab bench msda",
        description=DESCRIPTION,
        epilog="\n".join([_listed("cases", CASES), _listed("competitors", names()), "", EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="default: all")
    add("--competitors", nargs="+", default=[], metavar="NAME", help="names or their first words (default: all)")
    add(
        "--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), metavar="DTYPE", help=f"any of {', '.join(DTYPES)}"
    )
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: the CPU, and the GPU if there is one")
    add("--threads", nargs="+", type=_positive, default=[1, 2], metavar="N", help="on the CPU (default: 1 2)")
    add("--rounds", type=_positive, default=9, metavar="N", help="fewer for slow competitors, at least 3 (default: 9)")
    add("--no-memory", dest="memory", action="store_false", help="do not measure the peak memory")
    add("--quick", action="store_true", help="small sizes; nothing is written without --out")
    add("--out", type=Path, metavar="DIR", help="default: reports/bench")
    return parser


def _listed(heading: str, words: Iterable[str]) -> str:
    return textwrap.fill(
        f"{heading}: {', '.join(words)}", 118, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _devices(choice: str) -> tuple[str, ...]:
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise UserError("--device cuda: torch finds no CUDA device here")
    if choice == "auto":
        return ("cpu", "cuda") if available else ("cpu",)
    return (choice,)


def _measured(plan: Plan, device: str, console: Console) -> Findings:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        return measure(plan, device, lambda text: progress.update(task, description=text))


def _report(findings: Findings, device: str, options: argparse.Namespace, console: Console) -> None:
    console.print(f"{hardware(device)}, torch {torch.__version__}", style="bold", highlight=False)
    print_rows(findings.rows, console)
    for name, reason in findings.missing.items():
        console.print(f"not here: {name}: {reason}", highlight=False, soft_wrap=True)
    for case, extent in findings.checked.items():
        console.print(f"checked: {case}: {extent}", highlight=False, soft_wrap=True)
    folder = options.out or (None if options.quick else Path("reports") / "bench")
    if folder is None:
        console.print("quick run: nothing was written")
        return
    path = folder / f"msda-{slug(hardware(device))}.csv"
    write_rows(findings.rows, path)
    console.print(f"written: {path}", highlight=False, soft_wrap=True)
