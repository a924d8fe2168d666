"""Values as text, and what a field's type suggests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from vislab.errors import UserError
from vislab.study.sweep_values import Choices, Range, Values, derived_values, parsed_values, place_of


@dataclass(frozen=True)
class Plain:
    weight: float = 0.5


@dataclass(frozen=True)
class Needy:
    weight: float


@dataclass(frozen=True)
class Inner:
    points: int = 4
    mode: Literal["fast", "slow"] = "fast"


@dataclass(frozen=True)
class Config:
    inner: Inner | Plain | Needy | None = Inner()
    empty: Inner | None = None
    rate: float = 0.01
    share: float = 0.5
    flag: bool = True
    steps: int | None = None
    zero: int = 0
    levels: tuple[int, ...] | None = None
    mode: Literal["a", "b"] | None = "a"
    name: str = "x"
    many: dict[str, int] = field(default_factory=dict)


def values(text: str, path: str) -> Values:
    return parsed_values(text, place_of(Config(), path))


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("1..6", "inner.points", Range(1, 6, whole=True)),
        ("1..6", "rate", Range(1.0, 6.0, whole=False)),
        ("1e-5..1e-3:log", "rate", Range(1e-5, 1e-3, whole=False, log=True)),
        ("1..1", "inner.points", Range(1, 1, whole=True)),
        ("-1..1", "zero", Range(-1, 1, whole=True)),
        ("2,4,8", "inner.points", Choices((2, 4, 8))),
        ("1,2.5", "rate", Choices((1.0, 2.5))),
        ("1..9:3", "inner.points", Choices((1, 5, 9))),
        ("1..4:9", "inner.points", Choices((1, 2, 3, 4))),
        ("1e-4..1e-2:log:3", "rate", Choices((1e-4, 1e-3, 1e-2))),
        ("true,false", "flag", Choices((True, False))),
        ("none,3", "steps", Choices((None, 3))),
        ("slow", "inner.mode", Choices(("slow",))),
        ("b,none", "mode", Choices(("b", None))),
        ("plain,INNER,none", "inner", Choices(("Plain", "Inner", None))),
        ("y,z", "name", Choices(("y", "z"))),
        ("3", "empty.points", Choices((3,))),
    ],
)
def test_values(text: str, path: str, expected: Values) -> None:
    assert values(text, path) == expected


@pytest.mark.parametrize(
    ("text", "path", "sentence"),
    [
        ("6..1", "inner.points", "'6..1' is empty: its lower end 6 is above its upper end 1"),
        ("0..1:log", "rate", "must begin above 0"),
        ("1..6:x", "inner.points", "LOW..HIGH"),
        ("1..6:1", "inner.points", "2 or more"),
        ("1..2..3", "inner.points", "two numbers"),
        ("1.5..2", "inner.points", "'inner.points' takes int"),
        ("1..2", "mode", "is a range, but 'mode' takes a or b or none"),
        ("c", "mode", "'c' is no value of 'mode', which takes a or b or none"),
        ("1,1", "inner.points", "given twice"),
        ("1,,2", "inner.points", "expected values"),
        ("1:log", "inner.points", "only a range takes ':log'"),
        ("nan", "rate", "'nan' is no value of 'rate'"),
        ("1", "levels", "takes tuple[int, ...] or none"),
        ("needy", "inner", "no defaults for all of its fields"),
    ],
)
def test_refused_values(text: str, path: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        values(text, path)
    assert sentence in str(error.value)


def test_the_texts_of_values_are_those_that_they_were_parsed_from() -> None:
    for text, path in (("1..6", "zero"), ("0.001..1:log", "rate"), ("2,4", "zero"), ("true,false", "flag")):
        assert str(values(text, path)) == text


def test_paths_go_through_empty_slots_and_unions_and_name_what_exists() -> None:
    assert place_of(Config(), "empty.points").members == (int,)
    assert place_of(Config(), "inner.points").held == 4
    assert place_of(Config(inner=None), "inner.weight").members == (float,)
    for path, sentence in (
        ("inner.pints", "'inner' has points, mode"),
        ("nothing", "Config has inner, empty, rate"),
        ("rate.x", "'rate' has no fields"),
    ):
        with pytest.raises(UserError, match=sentence):
            place_of(Config(), path)


def test_a_slot_keeps_what_the_base_has_there() -> None:
    held = Inner(points=7)
    found = parsed_values("inner,plain", place_of(Config(inner=held), "inner"))
    assert found.setting("Inner") is held and found.setting("Plain") == Plain()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("inner.points", Range(2, 8, whole=True)),
        ("rate", Range(0.0025, 0.04, whole=False, log=True)),
        ("flag", Choices((False, True))),
        ("mode", Choices(("a", "b", None))),
        ("inner", Choices(("Inner", "Plain", None))),
    ],
)
def test_derived_values(path: str, expected: Values) -> None:
    assert derived_values(place_of(Config(), path), lambda value: True) == expected


def test_derived_bounds_are_those_that_the_configuration_accepts() -> None:
    share = derived_values(place_of(Config(), "share"), lambda value: value < 1)
    assert isinstance(share, Range) and share.low == 0.125 and 0.8 < share.high < 1
    points = derived_values(place_of(Config(), "inner.points"), lambda value: value <= 5)
    assert (points.low, points.high) == (2, 5)  # type: ignore[union-attr]
    only = derived_values(place_of(Config(), "inner.points"), lambda value: value == 4)
    assert (only.low, only.high) == (4, 4)  # type: ignore[union-attr]
    assert derived_values(place_of(Config(), "inner"), lambda value: value is not None).listed() == ("Inner", "Plain")


@pytest.mark.parametrize("path", ["steps", "zero", "levels", "name"])
def test_types_that_say_too_little(path: str) -> None:
    with pytest.raises(UserError, match="give some"):
        derived_values(place_of(Config(), path), lambda value: True)


def test_listing() -> None:
    assert Range(1, 3, whole=True).listed() == (1, 2, 3)
    assert Range(1, 3, whole=True, log=True).listed() is None and Range(1, 3, whole=False).listed() is None
    assert Range(1.0, 3.0, whole=False).ends() == (1.0, 3.0) and Range(2, 2, whole=True).ends() == (2,)
