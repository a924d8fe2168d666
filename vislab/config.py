"""Configurations: frozen standard-library dataclasses, changed by dotted path, hashed in one canonical form.

A configuration holds None, bool, int, float, str, tuples of these and other configurations. A slot that takes one of
several configurations is a union of dataclasses, perhaps with None for "ablated". Types come from the annotations, so
a change by path is checked as strictly as the source says. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vislab.errors import UserError

Config = TypeVar("Config")

TYPE = "type"  # the key that holds a dataclass's name in the canonical dictionary


def outside_key() -> dict[str, bool]:
    """Metadata of a field that says where something lies, not what it is: left out of `digest`."""
    return {"outside_key": True}


def added_later() -> dict[str, bool]:
    """Metadata of a field that came after results had been keyed: `digest` leaves it out while it holds its default,
    so that these results keep their keys."""
    return {"added_later": True}


def inference_only() -> dict[str, bool]:
    """Metadata of a field that acts outside of training alone: `digest` leaves it out, `inference_settings` has it."""
    return {"inference_only": True}


def replace_path(config: Config, path: str, value: Any) -> Config:
    """A copy of `config` with the field at a dotted path replaced, e.g. "model.encoder.num_points".

    Integers are accepted for floats and lists for tuples. A function is called with what the field holds and returns
    the new value. Raises UserError for a path that does not exist, naming the fields that do, and for a value whose
    type does not fit the annotation.
    """
    return with_changes(config, {path: value})


def with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    """`replace_path` for every entry, in the order given (fill a slot first, then change what is in it).

    Every configuration on the way is made once, at the end: what it checks about its fields together (`__post_init__`)
    must hold for all changes together, not after each of them.
    """
    draft = _Draft(config)
    for path, value in changes.items():
        draft.change(path.split("."), value, path)
    return draft.made()


def to_dict(config: Any) -> dict[str, Any]:
    """JSON-able canonical form: every dataclass is a dictionary whose "type" is its class's name.

    Numbers take the type of their annotation (1 in a float field becomes 1.0), so that equal settings give equal text.
    """
    return _canonical(config, type(config), type(config).__name__, keep_outside_key=True)


def from_dict(expected: Any, data: Any) -> Any:
    """Inverse of `to_dict`. expected: the dataclass, or a union of dataclasses, that `data` describes.

    Strict, since it reads what `to_dict` wrote: missing, unknown and ill-typed fields raise UserError. A missing field
    that is marked with `added_later` has its default, as when it was written.
    """
    return _coerced(data, expected, getattr(expected, "__name__", "configuration"))


def digest(config: Any, without: tuple[str, ...] = ()) -> str:
    """16 hexadecimal digits of the SHA-256 of the canonical JSON (sorted keys, floats by repr).

    without: names of top-level fields that do not count. Fields marked with `outside_key` or `inference_only` never
    count.
    """
    canonical = _canonical(config, type(config), type(config).__name__, keep_outside_key=False)
    return digest_of({name: value for name, value in canonical.items() if name not in without})


def digest_of(data: Any) -> str:
    """The same hash of any JSON-able value."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def inference_settings(config: Any) -> dict[str, Any]:
    """Dotted path -> value of every field marked with `inference_only` that does not hold its default."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.metadata.get("inference_only"):
            found |= {} if value == field.default else {field.name: value}
        elif _is_config(value):
            found |= {f"{field.name}.{path}": inner for path, inner in inference_settings(value).items()}
    return found


def field_types(cls: type) -> Mapping[str, Any]:
    """Annotations of a dataclass's fields, resolved, in order."""
    if cls not in _FIELD_TYPES:  # resolving is what most of a key's time went into
        hints = get_type_hints(cls)
        _FIELD_TYPES[cls] = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    return _FIELD_TYPES[cls]


_FIELD_TYPES: dict[type, Mapping[str, Any]] = {}


class _Draft:
    """A configuration whose fields are still being changed."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.values: dict[str, Any] = {}  # changed fields; drafts where something inside has changed

    def change(self, names: list[str], value: Any, path: str) -> None:
        """names: what is left of the dotted path from here on. path: all of it."""
        name, rest = names[0], names[1:]
        where = path.removesuffix("." + ".".join(rest)) if rest else path
        parent = where.rpartition(".")[0]
        if not _is_config(self.config):
            place = f"'{parent}' is {self.config!r}"
            raise UserError(f"no field '{path}': {place}, which has no fields; put a configuration there first")
        types_by_name = field_types(type(self.config))
        if name not in types_by_name:
            place = f"'{parent}' ({type(self.config).__name__})" if parent else type(self.config).__name__
            raise UserError(f"no field '{path}': {place} has {', '.join(types_by_name)}")
        held = self.values.get(name, getattr(self.config, name))
        if rest:
            inner = self.values[name] = held if isinstance(held, _Draft) else _Draft(held)
            inner.change(rest, value, path)
            return
        if callable(value) and not isinstance(value, type):
            value = value(held.made() if isinstance(held, _Draft) else held)
        self.values[name] = _coerced(value, types_by_name[name], where)

    def made(self) -> Any:
        made = {name: value.made() if isinstance(value, _Draft) else value for name, value in self.values.items()}
        return dataclasses.replace(self.config, **made) if made else self.config


def _is_config(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _alternatives(expected: Any) -> Iterator[Any]:
    """The members of a union, or the type itself."""
    if get_origin(expected) in (Union, types.UnionType):
        for member in get_args(expected):
            yield from _alternatives(member)
    else:
        yield expected


def _describe(expected: Any) -> str:
    names: list[str] = []
    for member in _alternatives(expected):
        if get_origin(member) is Literal:
            names.extend(repr(choice) for choice in get_args(member))
        elif member is type(None):
            names.append("None")
        else:
            names.append(member.__name__ if isinstance(member, type) and not get_args(member) else str(member))
    return " or ".join(names)


class _Mismatch(Exception):
    """The value is not of this alternative; another one of the union may fit."""


def _coerced(value: Any, expected: Any, where: str) -> Any:
    """`value` as the annotation wants it, from Python or from its canonical form; UserError where it does not fit."""
    for member in _alternatives(expected):
        try:
            return _coerced_to_member(value, member, where)
        except _Mismatch:
            continue
    found = f"{value.get(TYPE)}" if isinstance(value, dict) and TYPE in value else f"{value!r}"
    raise UserError(f"'{where}' is {found} ({type(value).__name__}), expected {_describe(expected)}")


def _coerced_to_member(value: Any, member: Any, where: str) -> Any:
    if member is Any:
        return value
    if get_origin(member) is Literal:
        return _checked(value, any(value == choice and type(value) is type(choice) for choice in get_args(member)))
    if get_origin(member) is tuple:
        return _coerced_tuple(value, get_args(member), where)
    if dataclasses.is_dataclass(member):
        return _coerced_config(value, member, where)
    if member is float and type(value) is int:
        value = float(value)
    if member in (bool, int, float, str, type(None)):
        value = _checked(value, type(value) is member)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"'{where}' is {value!r}, expected a finite number")
        return value
    raise TypeError(f"{where}: annotation {member!r} is not supported in a configuration")


def _checked(value: Any, fits: bool) -> Any:
    if not fits:
        raise _Mismatch
    return value


def _coerced_tuple(value: Any, items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    _checked(value, isinstance(value, (list, tuple)))
    if items[-1:] == (Ellipsis,):
        items = (items[0],) * len(value)
    _checked(value, len(items) == len(value))
    return tuple(_coerced(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(zip(value, items, strict=True)))


def _coerced_config(value: Any, cls: Any, where: str) -> Any:
    if not isinstance(value, dict):
        return _checked(value, type(value) is cls)
    _checked(value, value.get(TYPE) == cls.__name__)
    types_by_name = field_types(cls)
    unknown = [name for name in value if name != TYPE and name not in types_by_name]
    later = {field.name for field in dataclasses.fields(cls) if field.metadata.get("added_later")}
    missing = [name for name in types_by_name if name not in value and name not in later]
    if unknown or missing:
        wrong = f"has no field {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
        raise UserError(f"'{where}': {cls.__name__} {wrong}; its fields are {', '.join(types_by_name)}")
    given = {name: kind for name, kind in types_by_name.items() if name in value}
    return cls(**{name: _coerced(value[name], kind, f"{where}.{name}") for name, kind in given.items()})


def _counts(field: dataclasses.Field[Any], config: Any) -> bool:
    """Whether the field is part of the digest."""
    unchanged = field.metadata.get("added_later") and getattr(config, field.name) == field.default
    return not (unchanged or field.metadata.get("outside_key") or field.metadata.get("inference_only"))


def _canonical(value: Any, expected: Any, where: str, keep_outside_key: bool) -> Any:
    if _is_config(value):
        entries: dict[str, Any] = {TYPE: type(value).__name__}
        types_by_name = field_types(type(value))
        for field in dataclasses.fields(value):
            if keep_outside_key or _counts(field, value):
                inside = f"{where}.{field.name}"
                kind = types_by_name[field.name]
                entries[field.name] = _canonical(getattr(value, field.name), kind, inside, keep_outside_key)
        return entries
    value = _coerced(value, expected, where)
    if isinstance(value, tuple):
        return [_canonical(item, Any, where, keep_outside_key) for item in value]
    return value
