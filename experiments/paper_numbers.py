"""The numbers that a paper prints, papers/KEY.json, and tables declared from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vislab.study.declare import Pretraining, Table, rows_from_numbers


class PaperNumbers:
    """title: of the paper. tables: table id -> its record, with columns, rows, own_rows and data set."""

    def __init__(self, key: str) -> None:
        path = Path(__file__).parent / "papers" / f"{key}.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        self.title: str = record["title"]
        self.tables: dict[str, dict[str, Any]] = {table["id"]: table for table in record["tables"]}

    def table(
        self,
        table_id: str,
        caption: str,
        columns: tuple[str, ...],
        datasets: tuple[str, ...],
        *,
        label: Callable[[Mapping[str, Any]], str],
        changes: Mapping[int, Mapping[str, Any]],
        baselines: Mapping[int, int] | None = None,
        unavailable: Mapping[int, Mapping[str, str]] | None = None,
        disputed: Mapping[int, Mapping[str, str]] | None = None,
        about: Callable[[Mapping[str, Any]], str] | None = None,
        fresh: tuple[str, ...] = (),
        added: tuple[str, ...] = (),
        prefixes: Mapping[str, str] | None = None,
        pretraining: Mapping[int, Pretraining] | None = None,
        **more: Any,
    ) -> Table:
        """A table of the paper.

        label, changes, baselines, unavailable, prefixes: of `rows_from_numbers`. disputed, pretraining: row index -> of
        `Row`. about: record of a row -> of `Row`. fresh: of all rows. added: columns that the paper does not print.
        more: of `Table`.
        """
        numbers = self.tables[table_id]
        rows = rows_from_numbers(
            numbers, columns, label=label, changes=changes, baselines=baselines, unavailable=unavailable,
            prefixes=prefixes,
        )  # fmt: skip
        rows = tuple(
            replace(
                row,
                disputed=(disputed or {}).get(row.index, {}),
                about="" if about is None else about(record),
                fresh=fresh,
                pretraining=(pretraining or {}).get(row.index),
            )
            for row, record in zip(rows, numbers["rows"], strict=True)
        )
        return Table(table_id, caption, (*columns, *added), rows, datasets, numbers["dataset"], **more)
