"""The work of `vislab evaluate`: from files of ground truth and results to tables, files and figures."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from vislab.errors import UserError
from vislab.metrics.compare import comparison
from vislab.metrics.evaluation import Plan, evaluations
from vislab.metrics.evaluation import Progress as Report
from vislab.records import atomic_path
from vislab.report.evaluation.evaluation_plots import missing_plots, write_plots
from vislab.report.evaluation.evaluation_tables import print_comparison, print_evaluation


@dataclass(frozen=True)
class Outputs:
    """Where to write, None for nowhere: all numbers (csv, json), what a comparison finds (.csv or .json), figures."""

    csv: Path | None = None
    json: Path | None = None
    differences: Path | None = None
    plots: Path | None = None


def evaluate_files(
    gt: Path,
    results: Sequence[Path],
    others: Sequence[Path],
    plan: Plan,
    outputs: Outputs,
    *,
    workers: int | None,
    console: Console,
) -> None:
    """Evaluate one model, or compare it with another; print the tables and write what is asked for.

    Args:
        results, others: runs of each model, one file per training seed; no others: no comparison.

    Raises:
        UserError: malformed input, or an output that cannot be written; the latter before anything is computed.
    """
    _check(outputs, compared=bool(others))
    models = [list(results), list(others)] if others else [list(results)]
    with _progress() as report:
        found = evaluations(gt, models, replace(plan, compared=bool(others)), workers, report)
        frame, names = found[0].frame(), _names(models)
        differences = comparison(*found) if others else None
    _write(outputs.csv, _csv(frame))
    _write(outputs.json, _json(frame))
    print_evaluation(found[0], console)
    if differences is not None:
        as_json = outputs.differences is not None and outputs.differences.suffix == ".json"
        _write(outputs.differences, _json(differences) if as_json else _csv(differences))
        print_comparison(differences, (names[0], names[1]), (len(results), len(others)), console)
    if outputs.plots is not None:
        drawn = dict(zip(names, found, strict=True))
        written = write_plots(drawn, outputs.plots)
        lines = [f"figures: {', '.join(str(path) for path in written) or 'none'}"]
        lines += [f"no {reason}" for reason in missing_plots(drawn)]
        console.print("\n".join(lines), soft_wrap=True, markup=False)


def _check(outputs: Outputs, *, compared: bool) -> None:
    """Refuse outputs that cannot be written, before the work."""
    for option, path in (("--csv", outputs.csv), ("--json", outputs.json), ("--differences", outputs.differences)):
        if path is not None:
            if path.is_dir():
                raise UserError(f"{option} {path}: is a folder, expected the name of a file")
            _check_folder(option, path, path.parent)
    if outputs.plots is not None:
        _check_folder("--plots", outputs.plots, outputs.plots)
    if outputs.differences is not None:
        if not compared:
            raise UserError("--differences needs --compare OTHER.json")
        if outputs.differences.suffix not in (".csv", ".json"):
            raise UserError(f"--differences {outputs.differences}: expected a name that ends in .csv or .json")


def _check_folder(option: str, path: Path, folder: Path) -> None:
    """Whether files can be made in a folder, or, if it is not there yet, in the one that it would be made in."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), Path())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror or error})") from None


def _names(models: Sequence[Sequence[Path]]) -> list[str]:
    """What tables and figures call each model: its first file, in as few words as tell them apart."""
    firsts = [files[0] for files in models]
    for name in (lambda path: path.stem, lambda path: str(path.parent / path.stem)):
        names = [name(path) for path in firsts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, 1)]


@contextmanager
def _progress() -> Iterator[Report | None]:
    """A bar for each stage on stderr, gone afterwards; none if that is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    bars: dict[str, TaskID] = {}
    with Progress(console=console, transient=True) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(escape(stage))
            progress.update(bars[stage], completed=done, total=total)

        yield report


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def _json(frame: pd.DataFrame) -> str:
    """A record per line of the frame; undefined and infinite numbers are null."""
    records = [{name: _json_value(value) for name, value in record.items()} for record in frame.to_dict("records")]
    return json.dumps(records, indent=1, allow_nan=False) + "\n"


def _json_value(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
