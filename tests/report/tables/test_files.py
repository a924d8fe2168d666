"""A table's files: complete, deterministic, readable again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_made import CLEAN, evaluation, evidence_of, report_table
from PIL import Image

from vislab.errors import UserError
from vislab.report.tables.files import csv_text, read_table, table_path, write_table
from vislab.report.tables.frames import Evidence, ReportRow, table_frame
from vislab.report.tables.ranking import ranks
from vislab.report.tables.views import TableText


def test_all_formats_are_written_in_their_place(frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    write_table(frame, text, tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {f"tiny/p/T3.{suffix}" for suffix in ("csv", "md", "tex", "html", "png")}


def test_equal_content_gives_equal_bytes(frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_table(frame.copy(), text, tmp_path / folder)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_csv_reads_back_as_it_was(frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    write_table(frame, text, tmp_path)
    back = read_table(table_path(tmp_path, "tiny", "p", "T3"))
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize("label", ["None", "nan", "NA", "", "1"])
def test_labels_are_texts(label: str, frame: pd.DataFrame, text: TableText, tmp_path: Path) -> None:
    write_table(frame.assign(label=label), text, tmp_path)
    assert set(read_table(table_path(tmp_path, "tiny", "p", "T3"))["label"]) == {label}


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


STRANGE = r"50 % of <b>{A}_1</b> & $B$ | #2 ~ ^ \frac"
FIVE = ("csv", "md", "tex", "html", "png")


def undefined(*seeds: int) -> Evidence:
    return Evidence(tuple(evaluation(seed, np.full(4, np.nan)) for seed in seeds))


EDGES: dict[str, tuple[dict, dict]] = {  # changes of the table, evidence
    "nothing was run": ({}, {}),
    "one seed": ({}, {(0, CLEAN): evidence_of(0.4), (1, CLEAN): evidence_of(0.6)}),
    "one row": ({"rows": (ReportRow(0, "a", True),), "static": (), "columns": ("AP",)}, {(0, CLEAN): evidence_of(0.4)}),
    "all undefined": ({}, {(0, CLEAN): undefined(0, 1), (1, CLEAN): undefined(0, 1)}),
    "a failed row": ({}, {(0, CLEAN): evidence_of(0.4, 0.5), (1, CLEAN): Evidence(failures=(STRANGE,))}),
    "copied rows alone": ({"rows": (ReportRow(0, "a", False, {"AP": 1.0}),), "static": ()}, {}),
    "no data sets": ({"datasets": ()}, {}),
    "strange names": ({"rows": (ReportRow(0, STRANGE, True, {"AP": 1.0}),), "static": ()}, {}),
    "a strange data set": ({"datasets": (STRANGE,)}, {(0, STRANGE): evidence_of(0.4, 0.5)}),
}


def write_edge(name: str, folder: Path) -> None:
    changes, known = EDGES[name]
    frame = table_frame(report_table(**({"datasets": (CLEAN,)} | changes)), known)
    reasons = {(row, CLEAN): STRANGE for row in (0, 1)}
    text = TableText(STRANGE, (STRANGE,), reasons, {STRANGE: STRANGE}, ranks(frame, known))
    write_table(frame, text, folder)


@pytest.mark.parametrize("name", EDGES)
def test_every_format_takes_every_table(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_edge(name, tmp_path / folder)
    first, second = ([table_path(tmp_path / f, "tiny", "p", "T3", suffix) for suffix in FIVE] for f in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    contents = dict(zip(FIVE, first, strict=True))
    assert Image.open(contents["png"]).width <= 1380
    page = contents["html"].read_text()
    assert "<b>{A}" not in page and "nan" not in page.replace("-nan-", "")
    assert "nan" not in contents["md"].read_text().lower() and "nan" not in contents["csv"].read_text().lower()
    assert not read_table(contents["csv"]).empty


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_all_of_them_compile(tmp_path: Path) -> None:
    inputs = []
    for number, name in enumerate(EDGES):
        write_edge(name, tmp_path / str(number))
        inputs.append(rf"\input{{{number}/tiny/p/T3.tex}}\clearpage")
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "page.tex").write_text("\n".join([head, *inputs, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:]
