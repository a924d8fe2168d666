"""JSON annotation files: strict loading, typed access to entries, and what the formats have in common."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from vislab.data.dataset import Category
from vislab.errors import UserError

__all__ = ["MAX_ID", "Entry", "identified", "is_area", "is_box", "known", "load_json", "read_categories", "read_crowd"]

MAX_ID = 2**63 - 1

Value = TypeVar("Value")


class Entry:
    """One JSON object with typed access to its fields; `where` begins every message about it."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected an object, found {_shown(value)}")
        self.values, self.where = value, where

    def field(self, name: str) -> Any:
        if name not in self.values:
            raise UserError(f"{self.where}: missing key '{name}'; found {_shown(', '.join(self.values))}")
        return self.values[name]

    def integer(self, name: str, low: int, high: int) -> int:
        value = self.field(name)
        if type(value) is not int or not low <= value <= high:
            raise self.fault(name, value, f"an integer from {low} to {high}")
        return value

    def text(self, name: str) -> str:
        value = self.field(name)
        if not isinstance(value, str) or not value:
            raise self.fault(name, value, "a non-empty string")
        return value

    def array(self, name: str, length: int | None = None) -> list:
        value = self.field(name)
        if not isinstance(value, list):
            raise self.fault(name, value, "an array")
        if length is not None and len(value) != length:
            raise UserError(f"{self.where}: {name} has {len(value)} entries, expected {length}, one per frame")
        return value

    def fault(self, name: str, found: object, expected: str) -> UserError:
        return UserError(f"{self.where}: {name} is {_shown(found)}, expected {expected}")


def load_json(path: Path, shrink: Callable[[dict[str, Any]], None] | None = None) -> tuple[Any, str, bool]:
    """Parsed document, SHA-256 of the bytes, and whether NaN or an infinity stands anywhere in it.

    shrink: called with every object as soon as it is read, to replace what needs much memory. Raises UserError for a
    file that cannot be read, is no JSON, or has a key twice in one object.
    """
    non_finite: list[str] = []

    def constant(name: str) -> float:
        non_finite.append(name)
        return float(name.replace("Infinity", "inf"))

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise UserError(f"{path}: key '{twice}' occurs twice in one object")
        if shrink is not None:
            shrink(entry)
        return entry

    try:
        content = path.read_bytes()
        document = json.loads(content, parse_constant=constant, object_pairs_hook=unique_keys)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except json.JSONDecodeError as error:
        hint = "" if error.doc.rstrip().endswith("}") else " (file truncated?)"
        place = f"line {error.lineno} column {error.colno}"
        raise UserError(f"{path}: no valid JSON at {place}: {error.msg}{hint}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no valid JSON ({error})") from None
    return document, hashlib.sha256(content).hexdigest(), bool(non_finite)


def identified(entries: list, path: Path, array: str, noun: str | None = None) -> Iterator[tuple[int, Entry]]:
    """Every entry of an array with its id, which must be its own; what is wrong with an entry is raised at its turn.

    noun: begins messages about the other fields, together with the id, in place of the position in the array.
    """
    seen: set[int] = set()
    for position, value in enumerate(entries):
        entry = Entry(value, f"{path}: {array}[{position}]")
        number = entry.integer("id", 0, MAX_ID)
        if number in seen:
            raise UserError(f"{entry.where}: id {number} occurs twice")
        seen.add(number)
        if noun is not None:
            entry.where = f"{path}: {noun} {number}"
        yield number, entry


def read_categories(entries: list, path: Path) -> tuple[Category, ...]:
    """The entries of "categories", in their order: a label is a position in it, whatever gaps the ids have."""
    if not entries:
        raise UserError(f"{path}: categories is an empty array, expected at least one category")
    return tuple(Category(number, entry.text("name")) for number, entry in identified(entries, path, "categories"))


def known(entry: Entry, name: str, place: str, entries: dict[int, Value]) -> Value:
    """What the id in a field refers to. place: the array that `entries` come from."""
    value = entry.field(name)
    if type(value) is not int or value not in entries:
        ids = ", ".join(map(str, list(entries)[:8])) + (", ..." if len(entries) > 8 else "")
        raise entry.fault(name, value, f"the id of an entry of {place} ({ids})")
    return entries[value]


def read_crowd(entry: Entry) -> bool:
    """The field "iscrowd"; False where there is none."""
    iscrowd = entry.values.get("iscrowd", 0)
    if iscrowd not in (0, 1):
        raise entry.fault("iscrowd", iscrowd, "0 or 1")
    return bool(iscrowd)


def is_area(value: object) -> bool:
    """A finite number >= 0."""
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]  # NaN compares false


def is_box(value: object) -> bool:
    """[x, y, width, height] of finite numbers >= 0."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_area, value))


def _shown(value: object) -> str:
    text = value if isinstance(value, str) and ", " in value else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
