"""The README's status: what was really run, read from the committed reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from listing import num_runs

from vislab.report.tables.files import read_table, table_path
from vislab.report.tables.frames import COSTS
from vislab.study.declare import SCALES, Paper, Table

NAMES = {"taformer": "TAFormer", "ifr": "IFR", "devis": "DeVIS", "tevit": "TeViT", "refinevis": "RefineVIS"}


def status_markdown(papers: Sequence[Paper], reports: Path) -> str:
    """Table x scale: how many cells (row x data set) the reports hold a measurement of, and from how many seeds."""
    lines = [f"| table | {' | '.join(SCALES)} |", "|---" * (1 + len(SCALES)) + "|"]
    for paper in papers:
        for table in paper.tables:
            cells = [_cell(table, scale, table_path(reports, scale, paper.key, table.id)) for scale in SCALES]
            lines.append(f"| {NAMES[paper.key]} {table.id} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(table: Table, scale: str, path: Path) -> str:
    if not path.exists():
        return "–" if table.all_static and scale != "paper" else "not run"
    frame = read_table(path)
    frame = frame[~frame["metric"].isin(COSTS)]
    measured = frame[frame["status"] == "measured"]
    if measured.empty:
        return "static" if (frame["status"] == "static").any() else "not run"
    failed = _num_cells(frame[frame["status"] == "failed"])
    text = f"{_num_cells(measured)} of {num_runs(table, scale)} cells, {_seeds(measured)}"
    return f"{text}, {failed} failed" if failed else text


def _num_cells(frame: pd.DataFrame) -> int:
    return len(frame.groupby(["row", "dataset"]))


def _seeds(measured: pd.DataFrame) -> str:
    """Of the cells: "3 seeds", "1-3 seeds"."""
    counts = measured.groupby(["row", "dataset"])["n"].max()
    low, high = int(counts.min()), int(counts.max())
    return f"{low} seed{'s' * (low > 1)}" if low == high else f"{low}-{high} seeds"
