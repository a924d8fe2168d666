"""Static cells, kept in the run store: to count a model's parameters and products it must be built, and what builds
models takes seconds to import.

What is kept holds for the code that computed it: any change of a source file, of a paper's numbers or of the packages
that models are made of makes it void.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path

import vislab
from vislab.config import digest_of, to_dict
from vislab.records import RunStore, read_json, write_json
from vislab.study.declare import Paper, Row, Table

FILE = "static-values.json"
PACKAGES = ("torch", "transformers", "numpy")


def static_values(paper: Paper, table: Table, row: Row, scale: str, store: RunStore) -> Mapping[str, float]:
    """`Paper.static_values`, computed once for each state of the code."""
    path = store.root / FILE
    known = _known(path)
    config = digest_of(to_dict(paper.configuration(table, row, scale)))
    key = f"{paper.key} {table.id} {row.index} {scale} {config}"
    if key not in known:
        known = {**known, key: dict(paper.static_values(table, row, scale))}
        with contextlib.suppress(OSError):  # a store that cannot be written to costs time, nothing else
            write_json(path, {"code": code_digest(), "values": known})
    return known[key]


def _known(path: Path) -> dict[str, Mapping[str, float]]:
    if not path.exists():
        return {}
    found = read_json(path)
    return found["values"] if found["code"] == code_digest() else {}


@functools.cache
def code_digest() -> str:
    """Of every file that a static value can come from, and of the packages below it."""
    package, scripts = Path(vislab.__file__).parent, Path(__file__).parent
    files = [*sorted(package.rglob("*.py")), *sorted(scripts.glob("*.py")), *sorted(scripts.glob("papers/*.json"))]
    digest = hashlib.sha256(platform.python_version().encode())
    for name in PACKAGES:
        digest.update(f"{name} {importlib.metadata.version(name)}".encode())
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
