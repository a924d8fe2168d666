"""An evaluation, and a comparison of two, as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vislab.metrics import hota, mot
from vislab.metrics.errors import ERROR_TYPES, ORACLES
from vislab.metrics.evaluation import Evaluation
from vislab.metrics.numbers import (
    AP,
    AP_BY_CATEGORY,
    ERROR_COUNT,
    ERRORS,
    HOTA,
    LOST_AP,
    MASK,
    MOT_BOX,
    MOT_MASK,
    VISIBILITY,
    Key,
    is_count,
    less_is_better,
)
from vislab.metrics.subsets import OCCLUSIONS, TRACK_LENGTHS
from vislab.metrics.visibility import GROUPS
from vislab.report.tables.views import BETTER, NOTHING, UNRESOLVED, WORSE

_PRECISION_RECALL = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
_BY_CATEGORY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
_AREAS = {"small": ("APs", "ARs"), "medium": ("APm", "ARm"), "large": ("APl", "ARl")}
_RATES, _COUNTS = mot.STATISTICS[:5], mot.STATISTICS[5:]
_MEANINGS = {
    "classification": "right place and time, wrong category",
    "spatial": "right object over its time, poor masks",
    "temporal": "wrong extent in time, or identity switch",
    "both": "wrong category and poorly localised",
    "duplicate": "object found already",
    "background": "no object there",
    "miss": "object that no detection comes near",
    "false positive": "every wrong detection",
    "false negative": "every object not found",
}
_TITLES = {
    AP: "Average precision and recall",
    AP_BY_CATEGORY: "Average precision and recall by category",
    MOT_BOX: "MOT consistency, on tight boxes",
    MOT_MASK: "MOT consistency, on masks",
    HOTA: "HOTA, on masks",
    ERRORS: "Errors: what each type costs in AP50, and how many there are",
    VISIBILITY: "Mask IoU by visibility of the object in the frame",
}
_UNITS = {"videos": "videos", "seeds": "seeds each"}
_CELL, _LEAST = 9, 6  # width of an interval; narrowest column


@dataclass(frozen=True)
class _Line:
    """One row of a grid: number in each column, None for none; a line without numbers is a heading."""

    label: str
    keys: Mapping[str, Key | None]


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print one table per family, fractions in percent, each number above its 95 % interval, and how to read them."""
    for title, columns, lines in _grids(evaluation):
        for start, stop in _cuts(columns, lines, console.width):
            console.print(_grid(evaluation, title if start == 0 else "", columns[start:stop], lines))
    if ERRORS in evaluation.families.values():
        console.print(_error_table(evaluation))
    for note in _notes(evaluation):
        console.print(Padding(Text(note, style="dim"), (0, 1)))


def print_comparison(frame: pd.DataFrame, names: tuple[str, str], runs: tuple[int, int], console: Console) -> None:
    """Print what `compare.comparison` gives, and how to read it.

    Args:
        names: of the two models. runs: how many of each.
    """
    console.print(Text(f"{names[0]} against {names[1]}", style="bold"))
    for family, part in frame.groupby("family", sort=False):
        console.print(_comparison_table(str(family), part, names))
    notes = [
        f"Difference: {names[0]} minus {names[1]} on the same videos, with its 95 % bootstrap interval; "
        f"p: corrected for all numbers of the table (Holm). {BETTER} better, {WORSE} worse where p < 0.05.",
        "Needed: to see a difference as large as the one measured with a probability of 80 %.",
    ]
    if min(runs) == 1:
        notes.append(
            "A single run says nothing about other training runs of the same model, which may differ by more: "
            "give several results, one per training seed, for both."
        )
    for note in notes:
        console.print(Padding(Text(note, style="dim"), (0, 1)))


def _grids(evaluation: Evaluation) -> Iterator[tuple[str, Sequence[str], list[_Line]]]:
    """Title, columns and lines of each table."""
    families = set(evaluation.families.values())
    if AP in families:
        yield _TITLES[AP], _PRECISION_RECALL, _ap_lines(evaluation)
    if AP_BY_CATEGORY in families:
        yield _TITLES[AP_BY_CATEGORY], _BY_CATEGORY, _scope_lines(evaluation, AP_BY_CATEGORY, _BY_CATEGORY)
    for family, prefix in ((MOT_BOX, ""), (MOT_MASK, MASK)):
        if family in families:
            yield _TITLES[family], _RATES, _scope_lines(evaluation, family, _RATES, prefix)
            yield "", _COUNTS, _scope_lines(evaluation, family, _COUNTS, prefix)
    if HOTA in families:
        yield _TITLES[HOTA], hota.STATISTICS, _scope_lines(evaluation, HOTA, hota.STATISTICS)
    if VISIBILITY in families:
        yield _TITLES[VISIBILITY], ("IoU",), [_Line(group, {"IoU": Key("IoU", group)}) for group in GROUPS]


def _ap_lines(evaluation: Evaluation) -> list[_Line]:
    lines = [_Line("all", {name: Key(name, "all") for name in _PRECISION_RECALL}), _Line("area", {})]
    for area, (precision, recall) in _AREAS.items():
        lines.append(_Line(f"  {area}", {"AP": Key(precision, "all"), "AR100": Key(recall, "all")}))
    for heading, scopes in (("length", TRACK_LENGTHS), ("occlusion", OCCLUSIONS)):
        if Key("AP", scopes[0]) in evaluation.families:
            lines.append(_Line(heading, {}))
            for scope in scopes:
                label = f"  {scope.rpartition(' ')[2]}"
                lines.append(_Line(label, {name: Key(name, scope) for name in _PRECISION_RECALL}))
    return lines


def _scope_lines(evaluation: Evaluation, family: str, columns: Sequence[str], prefix: str = "") -> list[_Line]:
    """A line for each scope of the family."""
    scopes = dict.fromkeys(key.scope for key, own in evaluation.families.items() if own == family)
    return [_Line(scope, {name: Key(prefix + name, scope) for name in columns}) for scope in scopes]


def _cuts(columns: Sequence[str], lines: Sequence[_Line], width: int) -> Iterator[tuple[int, int]]:
    """First and last column, exclusive, of the tables that fit the width."""
    label = min(max(len(line.label) for line in lines), 30)
    fitting = max(1, (width - label - 6) // (_CELL + 1))
    number = math.ceil(len(columns) / fitting)
    size = math.ceil(len(columns) / number)
    return ((start, min(start + size, len(columns))) for start in range(0, len(columns), size))


def _grid(evaluation: Evaluation, title: str, columns: Sequence[str], lines: Sequence[_Line]) -> Table:
    table = _table(title)
    table.add_column("", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True, min_width=_LEAST)
    table.add_column("n", justify="right", style="dim")
    for line in lines:
        keys = [line.keys.get(name) for name in columns]
        counts = {evaluation.videos[key] for key in keys if key}
        cells = [_cell(evaluation, key) if key else Text() for key in keys]
        table.add_row(Text(line.label, style="" if counts else "dim"), *cells, str(max(counts)) if counts else "")
    return table


def _error_table(evaluation: Evaluation) -> Table:
    table = _table(_TITLES[ERRORS])
    for name, side in (("", "left"), ("AP50 lost", "right"), ("number", "right"), ("", "left")):
        table.add_column(name, justify=side, style="dim" if side == "left" and name else "")  # type: ignore[arg-type]
    for name in ORACLES:
        if name == ORACLES[len(ERROR_TYPES)]:
            table.add_section()
        cells = [_cell(evaluation, Key(prefix + name, "all")) for prefix in (LOST_AP, ERROR_COUNT)]
        table.add_row(name, *cells, Text(_MEANINGS[name], style="dim"))
    return table


def _table(title: str) -> Table:
    return Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0,
    )  # fmt: skip


def _cell(evaluation: Evaluation, key: Key) -> Text:
    value, (low, high) = evaluation.value(key), evaluation.interval(key)
    if math.isnan(value):
        return Text(NOTHING, style="dim")
    text = Text(_shown(key.metric, value))
    if not math.isnan(low):
        text.append(f"\n{_interval(key.metric, low, high)}", style="dim")
    return text


def _shown(metric: str, value: float, sign: str = "") -> str:
    """Percent with one decimal; counts whole, but for means of several runs."""
    if math.isnan(value):
        return NOTHING
    if is_count(metric):
        return f"{value:{sign},.{0 if value == round(value) else 1}f}"
    percent = round(100 * value, 1) + 0.0  # no negative zero
    return f"{percent:{sign}.{0 if abs(percent) == 100 else 1}f}"


def _interval(metric: str, low: float, high: float, sign: str = "") -> str:
    ends = [_shown(metric, float(np.rint(end)) if is_count(metric) else end, sign) for end in (low, high)]
    return ("–" if ends[0][0].isdigit() else " to ").join(ends)


def _notes(evaluation: Evaluation) -> Iterator[str]:
    settings = evaluation.plan.settings
    single = "" if len(evaluation.runs) == 1 else f", mean of {len(evaluation.runs)} runs"
    yield f"Percent, and counts{single}. Below: 95 % bootstrap interval over videos; n: videos that count."
    if {MOT_BOX, HOTA} & set(evaluation.families.values()):
        classes = "whatever their category" if settings.class_agnostic else "matched within their category"
        yield f"MOT and HOTA see detections with a score of at least {settings.score_threshold:g}, {classes}."
    outside = any(
        not low <= evaluation.value(key) <= high
        for key in evaluation.replicates
        for low, high in [evaluation.interval(key)]
        if not math.isnan(low)
    )
    if outside:
        yield "AP of few videos comes out too high. The intervals allow for that, so a value can lie above its own."


def _comparison_table(family: str, frame: pd.DataFrame, names: tuple[str, str]) -> Table:
    table = _table(_TITLES[family])
    table.add_column("", overflow="fold")
    for name in (*names, "difference", "p"):
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_column("", no_wrap=True)
    for record in frame.to_dict("records"):
        metric, scope = record["metric"], record["scope"]
        table.add_row(
            Text(metric if scope == "all" else f"{metric} {scope}"),
            _shown(metric, record["value"]),
            _shown(metric, record["other"]),
            _difference(record),
            NOTHING if math.isnan(record["p_holm"]) else f"{record['p_holm']:.3f}",
            _verdict(record),
        )
    return table


def _difference(record: Mapping) -> Text:
    text = Text(_shown(record["metric"], record["difference"], "+"))
    if not math.isnan(record["ci_low"]):
        text.append(f"\n{_interval(record['metric'], record['ci_low'], record['ci_high'], '+')}", style="dim")
    return text


def _verdict(record: Mapping) -> Text:
    if math.isnan(record["difference"]):
        return Text("undefined", style="dim")
    if record["supported"]:
        if record["metric"].removeprefix(MASK) == "PT":  # neither good nor bad
            return Text("different", style="bold")
        better = (record["difference"] > 0) != less_is_better(record["metric"])
        return Text(f"{BETTER} better", style="bold green") if better else Text(f"{WORSE} worse", style="bold red")
    if record["difference"] == record["ci_low"] == record["ci_high"] == 0:
        return Text("equal", style="dim")
    text = Text(f"{UNRESOLVED} not supported by {record['n']} video{'' if record['n'] == 1 else 's'}", style="dim")
    if record["needed"] < 1e6:
        text.append(f"\nneeded: about {record['needed']:,.0f} {_UNITS[record['needed_unit']]}")
    return text
