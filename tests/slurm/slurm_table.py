"""reproduce_table.py with a table that takes seconds, but for one row whose training can be interrupted."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import reproduce_table
import taformer

LONG_ROW, LONG_STEPS = 1, 90  # about 45 seconds, longer than a command starts; no checkpoint unless asked for
LONG = {"train.steps": LONG_STEPS, "train.warmup_steps": 0}


def main() -> int:
    table = taformer.PAPER.table("T3")
    rows = tuple(
        replace(row, changes={**(row.changes or {}), **LONG}) if row.index == LONG_ROW else row for row in table.rows
    )
    paper = replace(taformer.PAPER, pretraining=None, tables=(replace(table, rows=rows),))
    reproduce_table.PAPERS = {"taformer": paper}
    return reproduce_table.main(["taformer", "T3", "--scale", "smoke", "--data", "synthetic-ytvis19", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
