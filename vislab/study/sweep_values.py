"""The values that a sweep tries for one field of a configuration: a range or a list, written as text.

1..6                  whole numbers, or numbers, from 1 to 6; ends included
1e-5..1e-3:log        the same on a logarithmic scale
1e-5..1e-3:log:5      five values of it, evenly spaced
2,4,8,10              these values
AdditionConfig,none   in a slot, names of what fits into it
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

import numpy as np

from vislab.config import field_types
from vislab.errors import UserError

Scalar = None | bool | int | float | str


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, ends included; whole ones if `whole`; even on a logarithmic scale if `log`."""

    low: float
    high: float
    whole: bool
    log: bool = False

    def __str__(self) -> str:
        return "..".join(map(shown, (self._number(self.low), self._number(self.high)))) + (":log" if self.log else "")

    def listed(self) -> tuple[Scalar, ...] | None:
        """All values, where they can be counted."""
        return tuple(range(int(self.low), int(self.high) + 1)) if self.whole and not self.log else None

    def ends(self) -> tuple[Scalar, ...]:
        return tuple(dict.fromkeys((self._number(self.low), self._number(self.high))))

    def setting(self, value: Scalar) -> Any:
        """What the configuration is given for a value."""
        return value

    def _number(self, end: float) -> int | float:
        return int(end) if self.whole else end


@dataclass(frozen=True)
class Choices:
    """A list of values. configs: what a name stands for, in a slot that takes configurations."""

    values: tuple[Scalar, ...]
    configs: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return ",".join(map(shown, self.values))

    def listed(self) -> tuple[Scalar, ...]:
        return self.values

    def ends(self) -> tuple[Scalar, ...]:
        return self.values

    def setting(self, value: Scalar) -> Any:
        return self.configs.get(value, value) if isinstance(value, str) else value


Values = Range | Choices


@dataclass(frozen=True)
class Place:
    """A dotted path of a configuration. members: the alternatives of its annotation. held: what the base has there."""

    path: str
    members: tuple[Any, ...]
    held: Any

    @property
    def wants(self) -> str:
        """What it takes, in words."""
        return " or ".join(word for member in self.members for word in _words(member))


def place_of(base: Any, path: str) -> Place:
    """Look the path up, through empty slots too. Raises UserError naming the fields that exist where it goes wrong."""
    members, held, seen = (type(base),), base, ""
    for name in path.split("."):
        within = (type(held),) if dataclasses.is_dataclass(held) else members
        fields_by_class = [field_types(each) for each in within if _is_config(each)]
        found = [fields[name] for fields in fields_by_class if name in fields]
        if not found:
            known = ", ".join(dict.fromkeys(known for fields in fields_by_class for known in fields))
            where = f"'{seen}'" if seen else type(base).__name__
            raise UserError(f"no field '{path}': {where} has {known or 'no fields'}")
        members = tuple(dict.fromkeys(member for kind in found for member in _alternatives(kind)))
        held = getattr(held, name, None)
        seen = f"{seen}.{name}" if seen else name
    return Place(path, members, held)


def parsed_values(text: str, place: Place) -> Values:
    """Raises UserError for what the place does not take, and for an empty range."""
    body, *options = text.split(":")
    if ".." in body:
        return _parsed_range(body, options, place)
    if options:
        raise UserError(f"'{text}': only a range takes ':{options[0]}'")
    names = [name.strip() for name in body.split(",")]
    if not all(names):
        raise UserError(f"'{text}': expected values separated by commas, or a range such as 1..4")
    configs: dict[str, Any] = {}
    values = tuple(_parsed_value(name, place, configs) for name in names)
    if len(set(values)) < len(values):
        raise UserError(f"'{text}': a value is given twice")
    return Choices(values, configs)


def derived_values(place: Place, fits: Callable[[Any], bool]) -> Values:
    """What to try where nobody says: all choices; of whole numbers, half to twice what the base has; of others, a
    quarter to four times, on a logarithmic scale. Cut to what the configuration accepts.

    fits: whether the configuration accepts a value there. Raises UserError where the type says too little.
    """
    choices = _all_choices(place)
    if choices.values:
        return Choices(tuple(value for value in choices.values if fits(choices.setting(value))), choices.configs)
    held = place.held
    if isinstance(held, (int, float)) and held > 0:
        whole = isinstance(held, int)
        low, high = (max(1, held // 2), 2 * held) if whole else (held / 4, held * 4)
        return Range(_last_fitting(held, low, fits), _last_fitting(held, high, fits), whole, log=not whole)
    raise UserError(f"'{place.path}' is {held!r}, which suggests no values; give some, as in {place.path}=...")


def shown(value: Scalar) -> str:
    """As it is written on the command line."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parsed_range(body: str, options: list[str], place: Place) -> Values:
    text = ":".join([body, *options])
    if not {int, float} & {*place.members}:
        raise UserError(f"'{text}' is a range, but '{place.path}' takes {place.wants}")
    ends = body.split("..")
    whole = int in place.members and all(map(_is_int, ends))
    if len(ends) != 2 or not (whole or (float in place.members and all(map(_is_float, ends)))):
        raise UserError(f"'{text}': expected LOW..HIGH with two numbers; '{place.path}' takes {place.wants}")
    low, high = (int(end) if whole else float(end) for end in ends)
    log = "log" in options
    counts = [option for option in options if option != "log"]
    if low > high:
        raise UserError(f"'{text}' is empty: its lower end {ends[0]} is above its upper end {ends[1]}")
    if log and low <= 0:
        raise UserError(f"'{text}': a logarithmic range must begin above 0")
    if len(counts) > 1 or any(not _is_int(count) or int(count) < 2 for count in counts):
        raise UserError(f"'{text}': expected LOW..HIGH, LOW..HIGH:log, or with :N at its end, N values, 2 or more")
    found = Range(low, high, whole, log)
    return Choices(_spaced(found, int(counts[0]))) if counts else found


def _spaced(values: Range, count: int) -> tuple[Scalar, ...]:
    """Evenly, ends included; whole numbers are rounded, and each is there once."""
    spaced = np.geomspace if values.log else np.linspace
    numbers = [float(f"{number:.12g}") for number in spaced(values.low, values.high, count)]
    return tuple(dict.fromkeys(round(number) if values.whole else number for number in numbers))


def _parsed_value(text: str, place: Place, configs: dict[str, Any]) -> Scalar:
    for member in place.members:
        if member is type(None) and text.lower() == "none":
            return None
        if get_origin(member) is Literal and text in map(shown, get_args(member)):
            return next(choice for choice in get_args(member) if shown(choice) == text)
        if member is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if member is int and _is_int(text):
            return int(text)
        if member is float and _is_float(text):
            return float(text)
        if member is str:
            return text
        if _is_config(member) and text.lower().removesuffix("config") == member.__name__.lower().removesuffix("config"):
            configs[member.__name__] = _instance(member, place)
            return member.__name__
    raise UserError(f"'{text}' is no value of '{place.path}', which takes {place.wants}")


def _all_choices(place: Place) -> Choices:
    """Everything that the annotation lists; nothing if it leaves numbers or texts open."""
    if {int, float, str} & {*place.members} or any(get_origin(member) is tuple for member in place.members):
        return Choices(())
    values: list[Scalar] = []
    configs: dict[str, Any] = {}
    for member in place.members:
        if member is bool:
            values += [False, True]
        elif get_origin(member) is Literal:
            values += get_args(member)
        elif member is type(None):
            values.append(None)
        elif type(place.held) is member or _needs_nothing(member):
            values.append(member.__name__)
            configs[member.__name__] = _instance(member, place)
    return Choices(tuple(values), configs)


def _last_fitting(held: float, end: float, fits: Callable[[Any], bool]) -> float:
    """The end of a range, moved towards what is held until the configuration accepts it."""
    while not fits(end):
        nearer = (end + held) / 2
        if isinstance(held, int):
            nearer = math.floor(nearer) if end > held else math.ceil(nearer)
        else:
            nearer = float(f"{nearer:.2g}")
        if math.isclose(nearer, end, rel_tol=0.02):
            return held
        end = nearer
    return end


def _instance(cls: Any, place: Place) -> Any:
    """The configuration that the base has there, if it is one of this class; else the class's defaults."""
    if type(place.held) is cls:
        return place.held
    if not _needs_nothing(cls):
        raise UserError(f"'{cls.__name__}' has no defaults for all of its fields; '{place.path}' cannot be set to it")
    return cls()


def _needs_nothing(cls: Any) -> bool:
    missing = dataclasses.MISSING
    return all(each.default is not missing or each.default_factory is not missing for each in dataclasses.fields(cls))


def _alternatives(kind: Any) -> Iterator[Any]:
    """The members of a union, or the type itself."""
    if get_origin(kind) in (Union, types.UnionType):
        for member in get_args(kind):
            yield from _alternatives(member)
    else:
        yield kind


def _words(member: Any) -> list[str]:
    if get_origin(member) is Literal:
        return [shown(choice) for choice in get_args(member)]
    if member is type(None):
        return ["none"]
    return [member.__name__ if isinstance(member, type) and not get_args(member) else str(member)]


def _is_config(member: Any) -> TypeGuard[type]:
    return isinstance(member, type) and dataclasses.is_dataclass(member)


def _is_int(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
