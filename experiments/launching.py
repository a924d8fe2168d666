"""Where runs are worked off: the options that say so, of the scripts that run some."""

from __future__ import annotations

import argparse

from vislab.errors import UserError
from vislab.study.slurm import MINUTES, Resources, check_cluster, minutes_of, more_options

LAUNCHERS = ("local", "slurm")


def add_launcher(parser: argparse.ArgumentParser, tasks: str) -> None:
    """tasks: what a task of the array is, and what --jobs means for it."""
    add = parser.add_argument
    add("--launcher", choices=LAUNCHERS, default="local",
        help=f"local: this machine (default); slurm: an array of jobs through submitit, {tasks}. The command watches "
        "it; given again it watches again and submits only what is missing")  # fmt: skip
    add("--partition", metavar="NAME", help="of Slurm (default: the cluster's own)")
    add("--time-limit", metavar="H:MM:SS",
        help="of each task; one that takes longer, or is preempted, is queued again and goes on from a checkpoint "
        f"(default: {MINUTES // 60}:00:00)")  # fmt: skip
    add("--slurm", metavar="KEY=VALUE", action="append", default=[],
        help="any long option of sbatch, such as account=NAME, qos=NAME, mem=32G, cpus-per-task=8 or gres=gpu:a100:1 "
        "(default: a GPU and 4 CPUs for each task, or with --device cpu one CPU); may be repeated")  # fmt: skip


def resources_of(options: argparse.Namespace, side_by_side: int | None = None) -> Resources | None:
    """What to ask the cluster for; None where runs are local. Raises UserError for what cannot be meant."""
    if options.launcher == "local":
        given = {"--partition": options.partition, "--time-limit": options.time_limit, "--slurm": options.slurm}
        for name, value in given.items():
            if value:
                raise UserError(f"{name} is for --launcher slurm only")
        return None
    check_cluster()
    minutes = MINUTES if options.time_limit is None else minutes_of(options.time_limit)
    return Resources(minutes, options.partition, more_options(options.slurm), side_by_side)
