"""What the command lines of the scripts beside this file have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

from vislab.engine.device import DEVICES
from vislab.engine.log_sinks import SINKS

ROOT = Path(__file__).resolve().parents[1]


def script_parser(name: str, document: str | None) -> argparse.ArgumentParser:
    """document: the script's own: its first line describes it, what follows, with the examples, ends its help."""
    summary, _, epilog = (document or "").partition("\n\n")
    return argparse.ArgumentParser(
        prog=name, description=summary, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: auto, a GPU if there is one")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs side by side (default: one per core on the CPU, one on a GPU)"
    )


def add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log", default="", metavar="NAMES",
        help=f"show losses and results in {' or '.join(SINKS)} as well, or in both, separated by commas; their files "
        "lie in the runs' folders, and wandb sends nothing unless WANDB_MODE is online",
    )  # fmt: skip


def add_folders(parser: argparse.ArgumentParser, reports: str = "default: reports") -> None:
    """reports: help of --reports."""
    add = parser.add_argument
    add("--reports", type=Path, default=ROOT / "reports", metavar="DIR", help=reports)
    add("--runs", type=Path, default=ROOT / "runs", metavar="DIR", help="the run store (default: runs)")
