"""A benchmark's file, NAME-HARDWARE.csv: a run replaces the rows that it measured again; all others stay."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from vislab.errors import UserError
from vislab.records import atomic_path, environment, source_revision


def processor_name() -> str:
    """Model of the processor and its cores; never the name of the host."""
    found = environment()
    return f"{found['processor']}, {found['cores']} cores"


def slug(text: str) -> str:
    """For a file name: Intel(R) Xeon(R) Processor @ 2.50GHz, 2 cores -> intel-xeon-processor-2.50ghz-2-cores."""
    return re.sub(r"[^a-z0-9.]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-.")


def stamp(hardware: str) -> dict[str, str]:
    """The columns about the run: date (UTC), hardware, git."""
    revision = source_revision() or {"sha": "", "dirty": False}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware,
        "git": revision["sha"] + ("-dirty" if revision["dirty"] else ""),
    }


def update_rows(
    path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]], identity: Sequence[str]
) -> None:
    """Write the CSV whole or not at all.

    rows: column -> value; None is an empty field. identity: columns; rows in the file that agree in them with a new
    one go. Raises UserError for a file with other columns, or one that cannot be written.
    """
    new = [{name: _text(row[name]) for name in columns} for row in rows]
    measured = {tuple(record[name] for name in identity) for record in new}
    kept = [record for record in _read(path, columns) if tuple(record[name] for name in identity) not in measured]
    try:
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows([*kept, *new])
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise UserError(f"{path}: its columns are not those of this benchmark; move it away")
        return list(reader)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
