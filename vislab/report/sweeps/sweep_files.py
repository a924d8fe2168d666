"""A sweep's files: trials.csv, trials.parquet, summary.md and the figures, each written whole or not at all."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from vislab.errors import UserError
from vislab.records import atomic_path
from vislab.report.sweeps.sweep_frame import ESTIMATE, Quantity
from vislab.report.sweeps.sweep_plots import Sweep, missing_sweep_plots, write_sweep_plots
from vislab.report.tables.markdown import escape

MOST_LINES = 20  # of the summary's table


def write_sweep(sweep: Sweep, title: str, notes: Sequence[str], folder: Path) -> tuple[list[Path], list[str]]:
    """Returns what was written, and what was not and why. Raises UserError for a folder that cannot be written to."""
    missing = [f"no figure of {reason}" for reason in missing_sweep_plots(sweep)]
    written = []
    try:
        with atomic_path(folder / "trials.csv") as temporary:
            _compact(sweep.frame).to_csv(temporary, index=False, lineterminator="\n")
        if importlib.util.find_spec("pyarrow") is None:
            missing.append("no trials.parquet: pyarrow is not installed (pip install -e '.[sweeps]')")
        else:
            with atomic_path(folder / "trials.parquet") as temporary:
                _plain(_compact(sweep.frame)).to_parquet(temporary, index=False)
            written.append(folder / "trials.parquet")
        with atomic_path(folder / "summary.md") as temporary:
            temporary.write_text(summary(sweep, title, notes), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return [folder / "trials.csv", *written, folder / "summary.md", *write_sweep_plots(sweep, folder)], missing


def summary(sweep: Sweep, title: str, notes: Sequence[str]) -> str:
    """As GitHub-flavoured Markdown: the best trials, what matters, and how it was measured."""
    counts = [f"{count} {state}" for state, count in sweep.frame["state"].value_counts().items()]
    parts = [f"### {escape(title)}", "", f"{len(sweep.frame)} trials: {', '.join(counts)}.", ""]
    if len(sweep.complete):
        heads, rows = best_rows(sweep, MOST_LINES)
        several = len(sweep.objectives) > 1
        parts += ["Bold: no other trial is as good by every objective and better by one.", ""] * several
        parts += [_line(escape(head) for head in heads), _line("--:" for _ in heads)]
        parts += [_line([f"**{row[0]}**" if best and several else row[0], *map(escape, row[1:])]) for row, best in rows]
        left_out = len(sweep.complete) - len(rows)
        parts += ["", f"{left_out} more are in trials.csv.", ""] if left_out else [""]
    for objective, shares in sweep.importances.items():
        if shares:
            shown = ", ".join(f"{escape(name)} {share:.0f} %" for name, share in shares.items())
            parts += [f"What {escape(objective)} depends on ({sweep.importance_label}): {shown}.", ""]
    failures = sweep.frame[sweep.frame["state"] == "failed"]
    parts += [f"- Trial {line.trial} failed: {escape(str(line.note))}" for line in failures.itertuples()]
    parts += [f"- {escape(note)}" for note in notes]
    return "\n".join(parts).rstrip("\n") + "\n"


def best_rows(sweep: Sweep, most: int) -> tuple[list[str], list[tuple[list[str], bool]]]:
    """Headings, and the complete trials in order of the first objective as texts, each with whether it is among the
    best."""
    first = sweep.objectives[0]
    shown = [*sweep.objectives, *(each for each in sweep.quantities if each not in sweep.objectives)]
    shown = [each for each in shown if each.name in sweep.frame and sweep.complete[each.name].notna().any()]
    names = [axis.name for axis in sweep.axes]
    ordered = sweep.complete.sort_values(first.name, ascending=not first.more_is_better, kind="stable")
    rows = []
    for _, trial in ordered.head(most).iterrows():
        values = [_text(trial[name]) for name in names]
        rows.append(([str(trial["trial"]), *values, *(_cell(trial, each) for each in shown)], bool(trial["best"])))
    return ["trial", *names, *(each.label for each in shown)], rows


def _cell(trial: pd.Series, quantity: Quantity) -> str:
    value, std, low, high = (trial[f"{quantity.name}{part}"] for part in ("", "_std", "_ci_low", "_ci_high"))
    if pd.isna(value):
        return "–"
    spread = "" if pd.isna(std) else f" ± {std:.2g}"
    interval = "" if pd.isna(low) else f" [{low:.1f}, {high:.1f}]"
    return f"{value:.4g}{spread}{interval}"


def _text(value: object) -> str:
    if value is None or value != value:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _compact(frame: pd.DataFrame) -> pd.DataFrame:
    """Without spreads and intervals that no trial has."""
    parts = tuple(f"_{part}" for part in ESTIMATE)
    return frame.drop(columns=[name for name in frame if str(name).endswith(parts) and frame[name].isna().all()])


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each, as parquet needs them: what is neither numbers nor truth values becomes text."""
    mixed = [name for name in frame if frame[name].dtype == object]
    return frame.assign(**{name: frame[name].map(_text).astype(str) for name in mixed})
