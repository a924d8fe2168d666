"""The CSV of a benchmark: which rows a run replaces, and what a field looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from vislab.errors import UserError
from vislab.report.benchmark_file import update_rows

COLUMNS = ("case", "size", "seconds", "who")


def row(case: str, size: int, seconds: float, who: str | None = "a, b") -> dict[str, object]:
    return {"case": case, "size": size, "seconds": seconds, "who": who}


def test_rows_that_agree_in_the_identity_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "some.csv"
    update_rows(path, COLUMNS, [row("ap", 3, 1.23456), row("ap", 4, 2.0), row("ap", 3, 10000.0)], ["case", "size"])
    update_rows(path, COLUMNS, [row("ap", 3, 0.5, None)], ["case", "size"])
    assert path.read_bytes() == b'case,size,seconds,who\nap,4,2,"a, b"\nap,3,0.5,\n'
    update_rows(path, COLUMNS, [], ["case"])
    assert path.read_bytes() == b'case,size,seconds,who\nap,4,2,"a, b"\nap,3,0.5,\n'


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        update_rows(tmp_path / "file" / "some.csv", COLUMNS, [row("ap", 3, 1.0)], ["case"])
