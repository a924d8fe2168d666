"""A table's files: complete, deterministic, readable again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from vislab.errors import UserError
from vislab.report.files import csv_text, read_table, table_path, write_table
from vislab.report.views import TableText


def test_all_formats_are_written_in_their_place(frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    write_table(frame, text, tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {f"tiny/p/T3.{suffix}" for suffix in ("csv", "md", "tex", "html")}


def test_equal_content_gives_equal_bytes(frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_table(frame.copy(), text, tmp_path / folder)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_csv_reads_back_as_it_was(frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    write_table(frame, text, tmp_path)
    back = read_table(table_path(tmp_path, "tiny", "p", "T3"))
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False)


def test_unknown_is_an_empty_field(frame: pd.DataFrame) -> None:
    line = next(line for line in csv_text(frame).splitlines() if ",Others,AP," in line)
    assert line == "p,T3,2,Others,AP,30.3,,,,,,tiny,,reported-only,,"
    assert "nan" not in csv_text(frame).lower()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="x.csv"):
        read_table(tmp_path / "x.csv")
    with pytest.raises(UserError, match="missing.csv"):
        read_table(tmp_path / "missing.csv")
