"""Run a paper's table and print it: what the paper reported beside what was measured here.

examples:
  reproduce_table.py --list                                 every table, its cost, its status
  reproduce_table.py taformer T3 --scale tiny --seeds 3     train and measure a table, three seeds a row
  reproduce_table.py taformer T7 --rows 0,3 --jobs 2        only these rows, two at a time
  reproduce_table.py taformer T3 --data DIR                 on your own videos, in the YouTube-VIS layout
  reproduce_table.py taformer T3 --metrics ap,mot,hota      with how well identities are kept, from the same runs
  reproduce_table.py taformer --static --check              parameters at paper scale, compared with the paper's
  reproduce_table.py --summary --scale tiny                 all tables on one page, and how far they agree
  reproduce_table.py --rebuild --scale tiny                 every report of the scale again, from finished runs alone
  reproduce_table.py devis T5 --seeds 3                     rows that differ at inference only share their training
  reproduce_table.py devis T1 --launcher slurm --partition P --time-limit 4:00:00      every run a task of a cluster

The same command goes on where it stopped: finished runs are never repeated, interrupted ones resume. Tables are written
to reports/SCALE/PAPER/TABLE.csv, .md, .tex, .html and .png.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import devis
import ifr
import pandas as pd
import refinevis
import taformer
import tevit
from launching import add_launcher, resources_of
from listing import duration, print_list
from pretrain import make_weights
from processes import add_processes, check_shares, default_jobs, processes_of
from rebuild import rebuild_table, reported_tables
from rich.console import Console
from script_parser import add_device, add_folders, add_jobs, add_log, script_parser
from static_check import print_check
from status_table import status_markdown
from summary import write_summary
from tables import assemble, complete_tracking, tracking_families

from vislab.engine.device import resolve_device
from vislab.engine.log_sinks import checked_sinks
from vislab.engine.progress import TerminalWatcher
from vislab.errors import UserError
from vislab.records import RunStore
from vislab.report.runs.run_report import write_table_report
from vislab.report.tables import agreement
from vislab.report.tables.files import write_table
from vislab.report.tables.frames import TRACKING
from vislab.report.tables.terminal import print_view
from vislab.report.tables.views import View, build_view
from vislab.study.declare import SCALES, Paper, Table
from vislab.study.display import display_for
from vislab.study.launch import Outcome, launch
from vislab.study.plan import Job, PlannedRun, dataset_label, jobs, plan_table
from vislab.study.slurm import Resources
from vislab.study.slurm_watch import launch_on_slurm
from vislab.study.torchrun import run_script

PAPERS: dict[str, Paper] = {
    paper.key: paper for paper in (taformer.PAPER, ifr.PAPER, devis.PAPER, tevit.PAPER, refinevis.PAPER)
}
INTERRUPTED = 130
LOG_WIDTH = 140


@dataclass(frozen=True)
class Request:
    """A command line, checked. metrics: families of `TRACKING` to show beside the tables' own columns. cluster: None
    where runs are local. pages: whether a page about the runs behind each table is wanted.
    sinks: see `Job`."""

    paper: Paper
    tables: tuple[Table, ...]
    scale: str
    seeds: int
    datasets: tuple[str, ...] | None
    rows: tuple[int, ...] | None
    device: str
    parallel: int
    processes: int
    store: RunStore
    reports: Path
    metrics: tuple[str, ...] = ()
    cluster: Resources | None = None
    pages: bool = False
    sinks: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 if a row failed or a checked cell differs, 2 for a mistake of the user, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    console = wide_console()
    try:
        if options.list:
            chosen = [_paper(options.paper)] if options.paper else list(PAPERS.values())
            if options.markdown:
                print(status_markdown(chosen, options.reports))
            else:
                print_list(chosen, options.reports, console)
            return 0
        if options.summary:
            for path in write_summary(list(PAPERS.values()), options.scale, options.reports):
                print(path)
            return 0
        if options.rebuild:
            rebuild_reports(options, console)
            return 0
        request = checked(options)
        if options.pretrain:
            return make_weights(request.paper, request.scale, request.store, request.device, console, request.processes)
        code = print_static(request, console) if options.static else reproduce(request, console)
        if options.check:
            code = max(code, print_check(request.paper, request.tables, console))
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    result = script_parser("reproduce_table.py", __doc__)
    add = result.add_argument
    add("paper", nargs="?", metavar="PAPER", help=f"one of: {', '.join(PAPERS)}")
    add("tables", nargs="*", metavar="TABLE", help="the paper's own numbers, such as T3 (default: all of its tables)")
    add("--list", action="store_true", help="list tables with their rows, runs, estimated cost and status")
    add("--markdown", action="store_true", help="with --list: what was run, as the README shows it")
    add("--summary", action="store_true",
        help="write reports/SCALE/summary.md and .html: all tables of all papers, every row, and whether they agree "
        "with the paper's; runs nothing")  # fmt: skip
    add("--rebuild", action="store_true",
        help="make the reports under reports/SCALE, all or those of PAPER and TABLE, again from finished runs, with "
        "the data sets, seeds and metrics that they have; runs nothing, and leaves a report alone, saying why, where "
        "a number would be lost")  # fmt: skip
    add("--scale", choices=SCALES, default="tiny",
        help="smoke: seconds a row; tiny: minutes a row on two cores (default); small: minutes on one GPU; "
        "paper: the paper's own setting, needs --data")  # fmt: skip
    add("--seeds", type=int, default=1, metavar="N", help="training runs per row, seeds 0..N-1 (default: 1)")
    add("--data", metavar="NAME|PATH", action="append",
        help="a synthetic preset with dials, or a data set in YouTube-VIS layout, in place of the declared ones; "
        "may be repeated")  # fmt: skip
    add("--rows", metavar="I,J", help="train only these rows; the others are shown as they stand")
    add("--metrics", default="ap", metavar="NAMES",
        help="measured columns, separated by commas. ap: the table's own columns, always shown; mot: adds "
        f"{', '.join(TRACKING['mot'])} on boxes; hota: adds {', '.join(TRACKING['hota'])} on masks. Finished runs are "
        "measured from their predictions, once; nothing is trained again (default: ap)")  # fmt: skip
    add("--html-report", action="store_true",
        help="write TABLE-report.html as well: the runs behind the table, with curves, errors, the best and the worst "
        "videos, configurations and provenance")  # fmt: skip
    add_device(result)
    add_jobs(result)
    add_processes(result)
    add("--static", action="store_true", help="only what needs no training, at paper scale; takes seconds")
    add("--check", action="store_true",
        help="exit with 1 if a static cell differs from the paper's number by more than its rounding")  # fmt: skip
    add("--pretrain", action="store_true", help="make the weights that the rows of this scale start from")
    add_log(result)
    add_launcher(result, "a task for each run; --jobs of them at a time (default: as many as the cluster lets run)")
    add_folders(result)
    return result


def rebuild_reports(options: argparse.Namespace, console: Console) -> None:
    """All of them, with the summary if there is one, or those of a paper or of some of its tables."""
    for name in ("data", "rows", "static", "check", "pretrain", "html_report"):
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} is of no use with --rebuild, which takes reports as they are")
    papers = [_paper(options.paper)] if options.paper else [*PAPERS.values()]
    chosen = [(paper, table) for paper in papers for table in map(paper.table, options.tables)]
    there = chosen or list(reported_tables(papers, options.scale, options.reports))
    if not there:
        raise UserError(f"{options.reports / options.scale}: there are no reports to make again")
    for paper, table in there:
        said = rebuild_table(paper, table, options.scale, RunStore(options.runs), options.reports)
        console.print(f"{paper.key} {table.id}: {said}", markup=False, highlight=False, soft_wrap=True)
    if not options.paper and (options.reports / options.scale / "summary.md").exists():
        for path in write_summary(papers, options.scale, options.reports):
            console.print(str(path), markup=False, highlight=False, soft_wrap=True)


def checked(options: argparse.Namespace) -> Request:
    """Raises UserError for anything that cannot be meant."""
    if options.paper is None:
        raise UserError(f"no PAPER given; expected one of {', '.join(PAPERS)} (or --list)")
    paper = _paper(options.paper)
    named = {table.id: table for table in map(paper.table, options.tables)}
    tables = tuple(named.values()) or paper.tables
    for name in ("seeds", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}, expected 1 or more")
    if options.scale == "paper" and options.data is None and not (options.static or options.pretrain):
        raise UserError("--scale paper needs --data PATH, the real data set in YouTube-VIS layout (or use --static)")
    metrics = _metrics(options.metrics)
    if metrics and options.static:
        raise UserError(f"--metrics {options.metrics} needs finished runs, --static shows only what needs none")
    cluster = resources_of(options, side_by_side=options.jobs)
    if cluster and (options.static or options.pretrain):
        raise UserError("--launcher slurm runs rows; --static and --pretrain run here")
    device = options.device if cluster else str(resolve_device(options.device))  # a cluster's nodes see for themselves
    processes = processes_of(options, device)
    return Request(
        paper=paper,
        tables=tables,
        scale="paper" if options.static else options.scale,
        seeds=options.seeds,
        datasets=None if options.data is None else _datasets(options.data),
        rows=None if options.rows is None else _rows(options.rows, paper, tables),
        device=device,
        parallel=options.jobs or default_jobs(device, processes),
        processes=processes,
        store=RunStore(options.runs),
        reports=options.reports,
        metrics=metrics,
        cluster=cluster,
        pages=options.html_report,
        sinks=checked_sinks(options.log),
    )


def reproduce(request: Request, console: Console) -> int:
    """Train what is missing, then write and print every table asked for."""
    plans = {
        table.id: plan_table(request.paper, table, request.scale, seeds=request.seeds, datasets=request.datasets)
        for table in request.tables
    }  # without runs for tables of static numbers alone, which are shown as they are at scale paper
    wanted = [run for plan in plans.values() for run in plan if request.rows is None or run.row.index in request.rows]
    outcome = work_off(wanted, request, console)
    if outcome.interrupted and not request.cluster:
        console.print("Interrupted: finished runs are kept, the same command goes on from here.", style="bold")
    needed = {family for table in request.tables for family in tracking_families(table, request.metrics)}
    refused = {} if outcome.interrupted else complete_tracking(wanted, sorted(needed), request.store, TerminalWatcher())
    for table in request.tables:
        datasets = [dataset_label(name) for name in request.datasets or table.datasets]
        if table.all_static:
            print_static(replace(request, tables=(table,)), console)
            continue
        plan, asked = plans[table.id], request.metrics
        found = assemble(request.paper, table, request.scale, plan, datasets, request.store, asked, refused)
        view = write_table(found.frame, found.text, request.reports)
        print_view(view, console)
        if request.pages:
            _write_page(found.frame, view, request, console)
        agreement.update(request.reports / request.scale / request.paper.key, table.id, found.agreements)
        console.print()
    if outcome.interrupted:
        return INTERRUPTED
    return 1 if outcome.failed else 0


def work_off(wanted: Sequence[PlannedRun], request: Request, console: Console) -> Outcome:
    left = jobs(wanted, request.store, request.sinks)
    if not left:
        return Outcome()
    check_shares((job.runs[0].train for job in left if not request.store.trained(job.train_key)), request.processes)
    if request.cluster:
        return work_off_on_slurm(left, request, request.cluster, console)
    parallel = min(request.parallel, len(left))
    cost = duration(request.paper.minutes.get(request.scale, 0.0) * len(left) / parallel)
    noun = "run" if len(left) == 1 else "runs"
    console.print(f"{len(left)} {noun} to do, {parallel} at a time; about {cost}", highlight=False)
    with display_for(left, console) as display:
        return launch(
            left, request.store, display, device=request.device, parallel=parallel, processes=request.processes
        )


def work_off_on_slurm(left: Sequence[Job], request: Request, cluster: Resources, console: Console) -> Outcome:
    title = "-".join([request.paper.key, *(table.id for table in request.tables[:3])])
    with display_for(left, console) as display:
        return launch_on_slurm(
            left, request.store, display, cluster, device=request.device, processes=request.processes, title=title,
            say=lambda text: console.print(text, markup=False, highlight=False),
        )  # fmt: skip


def _write_page(frame: pd.DataFrame, view: View, request: Request, console: Console) -> None:
    with console.status("") as status:
        path = write_table_report(frame, view, request.store, request.reports, status.update)
    found = str(path) if path else "no page: none of the table's runs is finished"
    console.print(found, markup=False, highlight=False, soft_wrap=True)


def print_static(request: Request, console: Console) -> int:
    """Tables at paper scale with the cells that need no training."""
    for table in request.tables:
        frame, text, _ = assemble(request.paper, table, "paper", (), (), request.store)
        write_table(frame, text, request.reports)
        static = frame["metric"].isin(frame.loc[frame["status"] == "static", "metric"])
        if not static.any():
            console.print(f"{text.title}\n  nothing in it is known without training\n", highlight=False)
            continue
        print_view(build_view(frame[static], text), console)
        console.print()
    return 0


def wide_console() -> Console:
    """As wide as the terminal; in a pipe or a log as wide as most tables need, unless COLUMNS says otherwise."""
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=LOG_WIDTH)


def _paper(key: str) -> Paper:
    if key not in PAPERS:
        raise UserError(f"no paper {key!r}; expected one of {', '.join(PAPERS)}")
    return PAPERS[key]


def _datasets(names: Sequence[str]) -> tuple[str, ...]:
    """Each once; reports must be able to tell them apart."""
    labels: dict[str, str] = {}
    for name in names:
        other = labels.setdefault(dataset_label(name), name)
        if other != name:
            raise UserError(f"--data: {other} and {name} would both be called {dataset_label(name)!r} in the report")
    return tuple(labels.values())


def _metrics(text: str) -> tuple[str, ...]:
    """Families of tracking metrics from "ap,mot"."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ("ap", *TRACKING):
            raise UserError(f"--metrics: there is no metric {name!r}; expected any of ap, {', '.join(TRACKING)}")
    return tuple(family for family in TRACKING if family in names)


def _rows(text: str, paper: Paper, tables: Sequence[Table]) -> tuple[int, ...]:
    """Row indices from "0,3"; every one must be a row that some table asked for runs itself."""
    try:
        rows = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--rows is {text!r}, expected row numbers separated by commas, such as 0,3") from None
    own = sorted({row.index for table in tables for row in table.own_rows()})
    unknown = [row for row in rows if row not in own]
    if unknown:
        names = ", ".join(table.id for table in tables)
        raise UserError(f"--rows: {paper.key} {names} has no row {unknown[0]} to run; its own rows are {_listed(own)}")
    return rows


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


if __name__ == "__main__":
    sys.exit(run_script(main))
