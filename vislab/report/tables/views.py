"""What a table shows, laid out once for every format: columns, sections by data set, cells, footnotes.

Built from the long-form frame (the CSV) alone, plus `TableText` for what is not a number. The writers beside this file
only turn it into Markdown, LaTeX, HTML or a terminal's table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from vislab.metrics.numbers import less_is_better
from vislab.report.tables.frames import compared_metric, difference_of

HEADINGS = {
    "params_M": "params (M)",
    "params_unique_M": "unique params (M)",
    "train_minutes": "train (min)",
    "eval_minutes": "eval (min)",
    "peak_memory_GiB": "peak (GiB)",
    "training_gpu_hours": "training (GPU hours)",
    "GFLOPs_attention": "GFLOPs, attention products too",
    **{
        f"{part}_M": f"{part.replace('_', ' ')} (M)"
        for part in ("backbone", "pixel_decoder", "decoder", "temporal_attention", "clip_attention")
    },
    **{f"slot{slot}_frame": f"slot {slot}" for slot in range(1, 6)},
    **{f"clip{length}_dims": f"clips of {length}" for length in (3, 6, 9, 12)},
    **{
        f"{kind}_{name}": f"{name}, {words}"
        for kind, words in (("frame", "frame level"), ("refined", "refined"))
        for name in ("AP", "AP50", "AP75")
    },
    "fps_ResNet50": "FPS, ResNet-50",
    "fps_SwinL": "FPS, Swin-L",
    "TAR_MFLOPs": "TAR (MFLOPs a window)",
    "TAR_params_M": "TAR (M parameters)",
    "IoU_evident": "mask IoU, evident",
    "IoU_faint_near": "mask IoU, faint, seen nearby",
    "IoU_faint_alone": "mask IoU, faint, not seen nearby",
}
_DIGITS = {"_M": 2, "GFLOPs": 2, "MFLOPs": 2, "GFLOPs_attention": 2, "_GiB": 2, "_hours": 3, "_frame": 0, "_dims": 0}
BETTER, WORSE, UNRESOLVED = "↑", "↓", "≈"
NOTHING = "–"
SINGLED_OUT = (
    "Bold: better than every other row measured on the same data; underlined: better than every other but that one. "
    "Each comparison is paired, over two seeds or more, and its 95 % interval leaves out zero."
)
OPEN = (
    "No row is in bold: none is better than every other one by a paired 95 % interval over two seeds or more that "
    "leaves out zero."
)


@dataclass(frozen=True)
class TableText:
    """The words around a table.

    title: one line. footnotes: below it, in order. reasons: (row index, data set) -> why there is no number, from a
    row that was not run or failed. headings: data set -> what it is there for ("dial", "control"). ranks: (row index,
    data set, metric) -> place, as `ranking.ranks` finds it; None where nobody looked for the best rows.
    """

    title: str
    footnotes: tuple[str, ...] = ()
    reasons: Mapping[tuple[int, str], str] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)
    ranks: Mapping[tuple[int, str, str], int] | None = None


@dataclass(frozen=True)
class Column:
    """group: the metric's heading. sub: "reported", "measured", or "" where there is only one. whole: whether all
    reported numbers are whole."""

    metric: str
    group: str
    sub: str
    whole: bool = False


@dataclass(frozen=True)
class Cell:
    """value as text; spread is its standard deviation, count its number of seeds, interval its 95 % interval.

    mark: whether the data support a difference. note: number of the footnote that explains the value, 0 for none.
    rank: 1 for the best row, to be set in bold, 2 for the second, underlined; 0 for the others and where it is open.
    """

    value: str
    spread: str = ""
    count: str = ""
    interval: str = ""
    mark: str = ""
    note: int = 0
    rank: int = 0

    def rest(self) -> str:
        """What follows the value: " ± 1.1 (3)"."""
        return (f" ± {self.spread}" if self.spread else "") + self.count

    def head(self) -> str:
        """Value with its spread and count: "32.0 ± 1.1 (3)"."""
        return self.value + self.rest()


@dataclass(frozen=True)
class Line:
    index: int
    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """The rows on one data set."""

    heading: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class View:
    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    footnotes: tuple[str, ...]  # unnumbered
    numbered: tuple[str, ...]  # 1, 2, ... as the cells' notes refer to them


class Footnotes:
    """Numbers texts in order of first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def build_view(frame: pd.DataFrame, text: TableText) -> View:
    """Lay out a table's frame (columns of `frames.COLUMNS`): a section per data set, the paper's rows in order.

    Rows without a data set (copied by the paper) and static cells stand in every section, rows about one data set in
    its own.
    """
    columns = _columns(frame)
    notes = Footnotes()
    datasets = [name for name in frame["dataset"].unique() if name]
    rows = frame.drop_duplicates("row").sort_values("row", kind="stable")[["row", "label"]].itertuples(index=False)
    labels = [(int(row), str(label)) for row, label in rows]
    records = {(r["row"], r["metric"], r["dataset"]): r for r in frame.to_dict("records")}
    places = frame[frame["dataset"] != ""].groupby("row")["dataset"].agg(set)
    sections = []
    for dataset in datasets or [""]:
        lines = []
        for row, label in labels:
            if row in places and dataset not in places[row]:
                continue
            cells = []
            for column in columns:
                record = records.get((row, column.metric, dataset)) or records.get((row, column.metric, ""))
                cell = _cell(record, column, text.reasons.get((row, dataset), ""), notes)
                if column.sub != "reported":
                    cell = replace(cell, rank=(text.ranks or {}).get((row, dataset, column.metric), 0))
                cells.append(cell)
            lines.append(Line(row, label, tuple(cells)))
        about = text.headings.get(dataset)
        sections.append(Section(f"{dataset} ({about})" if about else dataset, tuple(lines)))
    return View(text.title, columns, tuple(sections), _general_notes(frame, text), tuple(notes.texts))


def heading(metric: str) -> str:
    base = compared_metric(metric)
    return HEADINGS.get(metric, metric) if base is None else f"Δ {heading(base)}"


def format_measured(metric: str, value: float) -> str:
    """Digits by unit: three for hours, two for millions and GiB, none for what is counted, one for anything else."""
    return f"{value:{'+' if compared_metric(metric) else ''}.{_digits(metric)}f}"


def _digits(metric: str) -> int:
    for ending, digits in _DIGITS.items():
        if metric.endswith(ending):
            return digits
    return 1


def _columns(frame: pd.DataFrame) -> tuple[Column, ...]:
    """A metric that is reported anywhere has two columns, any other one. Differences stand beside their metric."""
    there = list(frame["metric"].unique())
    metrics = []
    for metric in (metric for metric in there if compared_metric(metric) is None):
        metrics += [metric, difference_of(metric)] if difference_of(metric) in there else [metric]
    columns = []
    for metric in metrics:
        reported = frame.loc[frame["metric"] == metric, "reported"].dropna()
        subs = ("reported", "measured") if len(reported) else ("",)
        whole = bool((reported % 1 == 0).all())
        columns += [Column(metric, heading(metric), sub, whole) for sub in subs]
    return tuple(columns)


def _cell(record: dict[Any, Any] | None, column: Column, reason: str, notes: Footnotes) -> Cell:
    if record is None:
        return Cell(NOTHING)
    if column.sub == "reported":
        return Cell(_reported(record["reported"], column))
    if record["status"] in ("not-run", "failed"):
        text = str(record["status"]).replace("-", " ")
        return Cell(text, note=notes.number(reason) if reason else 0)
    if math.isnan(record["measured"]):
        return Cell(NOTHING if record["status"] == "reported-only" else "undefined")
    return _measured(record, column.metric)


def _reported(value: float, column: Column) -> str:
    if math.isnan(value):
        return NOTHING
    if compared_metric(column.metric):
        return f"{value:+}"
    return f"{value:.0f}" if column.whole else str(value)


def _measured(record: dict[Any, Any], metric: str) -> Cell:
    low, high = record["ci_low"], record["ci_high"]
    known = not math.isnan(low)
    return Cell(
        format_measured(metric, record["measured"]),
        spread="" if math.isnan(record["std"]) else f"{record['std']:.{_digits(metric)}f}",
        count=f" ({int(record['n'])})" if known else "",
        interval=f"[{format_measured(metric, low)}, {format_measured(metric, high)}]" if known else "",
        mark=_mark(metric, low, high) if compared_metric(metric) and known else "",
    )


def _mark(difference: str, low: float, high: float) -> str:
    if low <= 0 <= high:
        return UNRESOLVED
    fewer = less_is_better(compared_metric(difference) or "")
    return BETTER if (low > 0) != fewer else WORSE


def _general_notes(frame: pd.DataFrame, text: TableText) -> tuple[str, ...]:
    measured = frame["ci_low"].notna()
    notes = list(text.footnotes)
    if measured.any():
        notes.append(
            "Measured: mean ± standard deviation over seeds (number of seeds) [95 % bootstrap interval over videos]."
        )
    compared = [metric for metric in frame.loc[measured, "metric"].unique() if compared_metric(metric)]
    if compared:
        name = heading(compared[0]) if len(compared) == 1 else "Δ"
        notes.append(
            f"{name}: {BETTER} better and {WORSE} worse than the baseline row, as the paired "
            f"interval supports; {UNRESOLVED} not resolved by these data."
        )
    if text.ranks is not None and _several_rows(frame[measured]):
        notes.append(SINGLED_OUT if text.ranks else OPEN)
    if (measured & (frame["n"] == 1)).any():
        notes.append(
            "With one seed (1) intervals and marks are about these trained models on other videos; another training "
            "run may differ by more."
        )
    if (frame["status"] == "reported-only").any():
        notes.append(f"{NOTHING} measured: a number that the paper took from elsewhere, shown as reported.")
    return tuple(notes)


def _several_rows(measured: pd.DataFrame) -> bool:
    """Whether there are two rows to choose a best one from, in any column."""
    return bool((measured.groupby(["metric", "dataset"])["row"].nunique() > 1).any())
