"""Results: one row per case, pass, threads, dtype and competitor; on the screen and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from vislab.report.benchmark_file import update_rows


@dataclass(frozen=True)
class Row:
    """The fields are the columns of the CSV; None is an empty field."""

    case: str
    passes: str  # forward, or forward + backward; the column is called pass
    dtype: str
    threads: int | None  # None on a GPU
    competitor: str
    median_ms: float
    spread: float  # interquartile range over rounds, divided by the median
    ratio: float  # how many times as fast as the reference
    reference: str  # the fastest of the grid_sample forms in the same rounds, float32
    rounds: int
    bytes: int  # that must move
    flops: int
    roofline_share: float  # time at the machine's limit, divided by the median
    bandwidth_gb_s: float  # the limits measured in the same run
    gflop_s: float
    peak_memory_ratio: float | None  # extra peak memory, divided by outputs and returned gradients
    torch: str
    date: str  # UTC
    hardware: str
    git: str


COLUMNS = tuple("pass" if field.name == "passes" else field.name for field in fields(Row))


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Rows of other cases than those measured now stay in the file."""
    update_rows(path, COLUMNS, [dict(zip(COLUMNS, asdict(row).values(), strict=True)) for row in rows], ["case"])


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """A table for each case; the reference of the ratios is marked."""
    for case, members in groupby(rows, key=lambda row: row.case):
        table = Table(title=case, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("pass", "threads", "dtype", "competitor"):
            table.add_column(name, no_wrap=True)
        for name in ("median ms", "spread", "n", "times as fast", "of roofline", "memory"):
            table.add_column(name, justify="right", no_wrap=True)
        for _, group in groupby(members, key=lambda row: (row.passes, row.threads)):
            for row in sorted(group, key=lambda row: row.median_ms):
                table.add_row(*_cells(row))
            table.add_section()
        console.print(table)


def _cells(row: Row) -> tuple[str, ...]:
    is_reference = row.competitor == row.reference and row.dtype == "float32"
    return (
        row.passes,
        "" if row.threads is None else str(row.threads),
        row.dtype,
        row.competitor,
        f"{row.median_ms:.3g}" if row.median_ms < 100 else f"{row.median_ms:.0f}",
        f"{100 * row.spread:.0f} %",
        str(row.rounds),
        "reference" if is_reference else f"{row.ratio:.2f}",
        f"{100 * row.roofline_share:.1f} %",
        "" if row.peak_memory_ratio is None else f"{row.peak_memory_ratio:.2f} x",
    )
