"""Search a paper's model over anything that its configuration has, and draw what comes out.

examples:
  sweep.py taformer --list                                          what can be varied by a short name
  sweep.py taformer --over k_inter,clip_length                      a grid over the values that are suggested
  sweep.py taformer --over k_inter=1..6,lr=1e-4..1e-3:log --trials 30    Bayesian optimisation (TPE)
  sweep.py devis --over k_temp,clip_length --objectives AP,GFLOPs --seeds 3    a Pareto front
  sweep.py taformer --over model.encoder.fusion --scale smoke       any dotted path of the configuration
  sweep.py taformer --over k_inter=1..6 --storage postgresql://USER@HOST/DATABASE    the same on every machine
  sweep.py taformer --over k_inter,clip_length --launcher slurm --jobs 8           eight tasks of a cluster share it
  sweep.py taformer --over k_inter,clip_length --report             files and figures of what is there; runs nothing

Trials are runs of the store that tables use: what either has trained, the other finds done. The same command goes on
where it stopped, also after kill -9; given twice, it shares the work. Results go to reports/SCALE/PAPER/sweeps/NAME/.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from launching import add_launcher, resources_of
from listing import duration
from processes import add_processes, default_jobs, processes_of
from reproduce_table import INTERRUPTED, PAPERS, wide_console
from rich import box
from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text
from script_parser import add_device, add_folders, add_jobs, add_log, script_parser
from sweep_numbers import QUANTITIES
from sweep_report import write_report
from sweep_setup import (
    AUTO,
    Setup,
    Wish,
    base_run,
    checked_name,
    default_dataset,
    dimensions,
    set_up,
    stored_wish,
    study_name,
)

from vislab.engine.device import resolve_device
from vislab.engine.log_sinks import checked_sinks
from vislab.errors import UserError
from vislab.records import RunStore
from vislab.study.declare import SCALES, Paper
from vislab.study.slurm import Resources
from vislab.study.slurm_sweep import sweep_on_slurm
from vislab.study.slurm_task import ScriptTask
from vislab.study.sweep_display import sweep_display
from vislab.study.sweep_queue import TrialQueue, identity_of, open_queue
from vislab.study.sweep_run import work_off
from vislab.study.sweep_samplers import PRUNERS, SAMPLERS
from vislab.study.sweep_space import parsed_space
from vislab.study.sweep_storage import journal_url, open_storage, sqlite_url, storage_errors, without_password
from vislab.study.torchrun import run_script

TASKS = 16  # of a sweep on a cluster, if nobody says


@dataclass(frozen=True)
class Request:
    """A command line, checked, but for what only the storage knows. name: None for the default. cluster: None where
    runs are local; else at most `parallel` tasks of it share the sweep. options: as given, for those tasks.
    sinks: see `Job`."""

    paper: Paper
    wish: Wish
    name: str | None
    url: str
    device: str
    parallel: int
    processes: int
    store: RunStore
    reports: Path
    runs_nothing: bool
    retry_failed: bool
    cluster: Resources | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    sinks: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 if a trial failed, 2 for a mistake of the user, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    console = wide_console()
    try:
        if options.list:
            print_dimensions(_paper(options.paper), options.scale, console)
            return 0
        request = checked(options)
        with storage_errors(request.url):
            return sweep(request, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    result = script_parser("sweep.py", __doc__)
    add = result.add_argument
    add("paper", metavar="PAPER", help=f"one of: {', '.join(PAPERS)}")
    add("--over", nargs="+", metavar="NAME[=VALUES]", default=[],
        help="what is varied, separated by commas; VALUES are 1..6, 0.1..0.5, 1e-5..1e-3:log, 1e-5..1e-3:log:5 (five "
        "values) or 2,4,8; without, those that --list shows, or what the field's type suggests")  # fmt: skip
    add("--list", action="store_true", help="show what has a short name, with its values, and stop")
    add("--trials", type=int, metavar="N", help="in all, those of earlier calls too (default: every cell of a grid)")
    add("--objectives", default="AP", metavar="NAMES",
        help=f"any of {', '.join(each.name for each in QUANTITIES)} (default: AP)")  # fmt: skip
    add("--sampler", choices=(AUTO, *SAMPLERS), default=AUTO,
        help="default: auto, a grid if --trials covers all of its cells, else tpe")  # fmt: skip
    add("--pruner", choices=PRUNERS, default="none",
        help="give trials up by AP at checkpoints of the first seed and after each seed (default: none)")  # fmt: skip
    add("--seeds", type=int, default=1, metavar="N", help="runs of a trial, seeds 0..N-1, averaged (default: 1)")
    add("--name", metavar="NAME", help="what the sweep is called (default: after what is varied)")
    add("--storage", metavar="URL",
        help="where trials are kept: sqlite:///FILE, postgresql://USER@HOST/DATABASE, grpc://HOST:PORT or "
        "journal:///FILE (default: runs/sweeps.db; with --launcher slurm runs/sweeps.journal, as SQLite's locks "
        "do not hold between machines)")  # fmt: skip
    add("--report", action="store_true", help="write files and figures of what is there, and run nothing")
    add("--retry-failed", action="store_true", help="try failed trials again")
    add("--scale", choices=SCALES, default="tiny", help="as for tables (default: tiny)")
    add("--data", metavar="NAME|PATH",
        help="a synthetic preset with dials, or a folder in YouTube-VIS layout (default: as --list says)")  # fmt: skip
    add_device(result)
    add_jobs(result)
    add_processes(result)
    add_log(result)
    add_launcher(result, f"--jobs tasks, one run at a time each (default: one for each trial, at most {TASKS})")
    add_folders(result)
    return result


def checked(options: argparse.Namespace) -> Request:
    """Raises UserError for anything that cannot be meant."""
    paper = _paper(options.paper)
    for name in ("trials", "seeds", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}, expected 1 or more")
    if not options.over and options.name is None:
        raise UserError(
            "--over is missing: say what to vary, such as --over k_inter (--list shows what has a name), or give the "
            "--name of a sweep that is there"
        )
    if options.scale == "paper" and options.data is None:
        raise UserError("--scale paper needs --data PATH, the real data set in YouTube-VIS layout")
    cluster = resources_of(options)
    if cluster and (options.storage or "").startswith("sqlite"):
        raise UserError(
            f"--storage {options.storage}: SQLite's locks do not hold between machines; with --launcher slurm use "
            "journal:///FILE on a shared folder, postgresql://USER@HOST/DATABASE or grpc://HOST:PORT"
        )
    device = options.device if cluster else str(resolve_device(options.device))  # a cluster's nodes see for themselves
    processes = processes_of(options, device)
    wish = Wish(
        over=tuple(options.over),
        objectives=tuple(name.strip() for name in options.objectives.split(",")),
        scale=options.scale,
        dataset=options.data or default_dataset(paper),
        seeds=options.seeds,
        sampler=options.sampler,
        pruner=options.pruner,
        trials=options.trials,
    )
    return Request(
        paper=paper,
        wish=wish,
        name=None if options.name is None else checked_name(options.name),
        url=options.storage or _default_storage(options.runs, cluster),
        device=device,
        parallel=options.jobs or (TASKS if cluster else default_jobs(device, processes)),
        processes=processes,
        store=RunStore(options.runs),
        reports=options.reports,
        runs_nothing=options.report,
        retry_failed=options.retry_failed,
        cluster=cluster,
        options=vars(options),
        sinks=checked_sinks(options.log),
    )


def sweep(request: Request, console: Console) -> int:
    """Run what is left of the sweep, then write and print what came out."""
    setup, trials = opened(request)
    interrupted = False
    if not request.runs_nothing:
        if request.retry_failed:
            trials.retry_failed()
        interrupted = run(setup, trials, request, console)
    counts = trials.counts()
    if interrupted and not request.cluster:
        console.print("Interrupted: nothing is lost, the same command goes on from here.", style="bold")
    elif counts.running:
        noun = "trial is" if counts.running == 1 else "trials are"
        console.print(f"{counts.running} {noun} still at work elsewhere; --report shows the end.", style="bold")
    write_report(setup, trials, request.reports, console)
    if not request.url.startswith("grpc"):
        where = without_password(request.url).removeprefix("journal:///")
        console.print(f"to look around: optuna-dashboard {where}", markup=False, highlight=False, soft_wrap=True)
    if interrupted:
        return INTERRUPTED
    return 1 if counts.failed else 0


def opened(request: Request) -> tuple[Setup, TrialQueue]:
    """The sweep in its storage, which is made if there is none."""
    if not request.runs_nothing:
        Path(request.store.root).mkdir(parents=True, exist_ok=True)
    storage, where = open_storage(request.url), f"--storage {without_password(request.url)}"
    wish = request.wish
    if not wish.over:
        assert request.name is not None
        wish = stored_wish(
            wish, identity_of(storage, study_name(request.paper, wish, request.name)), request.name, where
        )
    setup = set_up(request.paper, wish, request.name, partial(identity_of, storage))
    if request.runs_nothing and identity_of(storage, setup.study) is None:
        raise UserError(f"--report: {where} has no sweep {setup.study!r}")
    return setup, open_queue(storage, setup.study, setup.rules, setup.total, setup.identity, where)


def run(setup: Setup, trials: TrialQueue, request: Request, console: Console) -> bool:
    """Returns whether Ctrl-C ended it."""
    left = setup.total - trials.counts().ended
    if not left:
        return False
    parallel = min(request.parallel, left) if request.cluster else request.parallel
    minutes = request.paper.minutes.get(setup.wish.scale, 0.0) * left * setup.wish.seeds / parallel
    console.print(
        f"{setup.study}: {left} of {setup.total} trials to do, {parallel} runs at a time; at most "
        f"{duration(minutes)}, less where runs are shared",
        highlight=False,
    )
    objectives = {each.name: each.more_is_better for each in setup.objectives}
    with sweep_display(objectives, setup.total, console) as display:
        if request.cluster:
            return sweep_on_slurm(
                ScriptTask(Path(__file__).resolve(), "work", _options_of_tasks(request)), trials,
                request.store, display, request.cluster, claim=f"{setup.study} in {request.url}", workers=parallel,
                device=request.device, processes=request.processes,
                say=lambda text: console.print(text, markup=False, highlight=False),
            )  # fmt: skip
        outcome = work_off(
            setup.search(request.store, request.sinks), trials, request.store, display,
            device=request.device, parallel=request.parallel, processes=request.processes,
        )  # fmt: skip
    return outcome.interrupted


def work(options: dict[str, Any]) -> bool:
    """What a task of a cluster does: take part in a sweep, one run at a time; files and figures are up to whoever
    watches. options: a parsed command line. Returns whether Ctrl-C ended it."""
    request = checked(argparse.Namespace(**options))
    with storage_errors(request.url):
        setup, trials = opened(request)
        return run(setup, trials, request, wide_console())


def _options_of_tasks(request: Request) -> dict[str, Any]:
    """What makes the tasks of a cluster join the same sweep."""
    alone: dict[str, Any] = {"launcher": "local", "partition": None, "time_limit": None, "slurm": [], "jobs": 1}
    return {**request.options, **alone, "storage": request.url, "runs": Path(request.store.root).resolve()}


def print_dimensions(paper: Paper, scale: str, console: Console) -> None:
    """Short names, what they set, and the values that are tried without any given."""
    base = base_run(paper, scale, default_dataset(paper))
    table = ScreenTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("name", "sets", "over"):
        table.add_column(heading)
    known = dimensions(paper, base)
    for name, dimension in known.items():
        (axis,) = parsed_space([name], known, base).axes
        more = " and what goes with it" if dimension.changes is not None else ""
        table.add_row(name, Text(f"{dimension.path}{more}"), Text(str(axis.values)))
    console.print(table)
    console.print(
        f"Any dotted path of the configuration can be varied, too, such as model.hidden_dim. Sweeps of {paper.key} run "
        f"on {default_dataset(paper)} unless --data names another.",
        style="dim", highlight=False,
    )  # fmt: skip


def _default_storage(runs: Path, cluster: Resources | None) -> str:
    return journal_url(runs / "sweeps.journal") if cluster else sqlite_url(runs / "sweeps.db")


def _paper(key: str) -> Paper:
    if key not in PAPERS:
        raise UserError(f"no paper {key!r}; expected one of {', '.join(PAPERS)}")
    return PAPERS[key]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what schedulers send: as Ctrl-C
    sys.exit(run_script(main))
