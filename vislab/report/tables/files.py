"""A table's files: reports/SCALE/PAPER/TABLE.csv and its views, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vislab.errors import UserError
from vislab.records import atomic_path, write_text
from vislab.report.tables.frames import COLUMNS
from vislab.report.tables.html_page import html_page
from vislab.report.tables.latex import latex
from vislab.report.tables.markdown import markdown
from vislab.report.tables.table_picture import table_png
from vislab.report.tables.views import TableText, View, build_view


def table_path(reports: Path, scale: str, paper: str, table: str, suffix: str = "csv") -> Path:
    return reports / scale / paper / f"{table}.{suffix}"


def write_table(frame: pd.DataFrame, text: TableText, reports: Path) -> View:
    """Write .csv, .md, .tex, .html and .png of one table; equal content gives equal bytes. Returns what they show."""
    view = build_view(frame, text)
    first = frame.iloc[0]
    contents = {"csv": csv_text(frame), "md": markdown(view), "tex": latex(view), "html": html_page(view)}
    for suffix, content in contents.items():
        path = table_path(reports, first["scale"], first["paper"], first["table"], suffix)
        write_text(path, content)
    with atomic_path(table_path(reports, first["scale"], first["paper"], first["table"], "png")) as temporary:
        temporary.write_bytes(table_png(view))
    return view


def csv_text(frame: pd.DataFrame) -> str:
    """The long-form CSV, with an empty field for what is not known; n is empty where nothing was counted."""
    counted = frame.assign(n=frame["n"].astype(object).where(frame["n"] > 0, ""))
    return counted.to_csv(index=False, lineterminator="\n")


def read_table(path: Path) -> pd.DataFrame:
    """A frame as `write_table` wrote it. Raises UserError for another file."""
    try:
        texts = dict.fromkeys(("label", "dataset", "train_key", "eval_key"), str)
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])  # "None" is a label
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from None
    if list(frame.columns) != list(COLUMNS):
        raise UserError(f"{path}: its columns are {', '.join(frame.columns)}; expected {', '.join(COLUMNS)}")
    return frame.assign(n=frame["n"].fillna(0).astype(int), **{name: frame[name].fillna("") for name in texts})
