"""Configurations: paths, types, canonical form, keys."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vislab.config import (
    added_later,
    digest,
    digest_of,
    from_dict,
    inference_only,
    inference_settings,
    outside_key,
    replace_path,
    to_dict,
    with_changes,
)
from vislab.errors import UserError


@dataclass(frozen=True)
class Shift:
    strides: tuple[int, ...] = (1, -1)


@dataclass(frozen=True)
class Attention:
    num_points: int = 4
    dropout: float = 0.0


@dataclass(frozen=True)
class Encoder:
    temporal: Attention | Shift | None = Attention()
    border: Literal["mask", "clamp"] = "mask"
    num_layers: int = 6


@dataclass(frozen=True)
class Experiment:
    encoder: Encoder = Encoder()
    betas: tuple[float, float] = (0.9, 0.999)
    short_sides: tuple[int, ...] = ()
    amp: bool = False
    limit: int | None = None
    name: str = "a"
    path: str = field(default="x", metadata=outside_key())
    slots: tuple[Attention | None, ...] = ()


def test_replace_path_changes_one_leaf_and_leaves_the_original() -> None:
    base = Experiment()
    changed = replace_path(base, "encoder.temporal.num_points", 3)
    assert changed == dataclasses.replace(base, encoder=Encoder(temporal=Attention(num_points=3)))
    assert base == Experiment()


def test_replace_path_fills_and_empties_slots() -> None:
    assert replace_path(Experiment(), "encoder.temporal", None).encoder.temporal is None
    assert replace_path(Experiment(), "encoder.temporal", Shift()).encoder.temporal == Shift()


def test_with_changes_applies_in_order() -> None:
    changes = {"encoder.temporal": Shift(), "encoder.temporal.strides": [2, 4], "limit": 5}
    changed = with_changes(Experiment(), changes)
    assert changed.encoder.temporal == Shift((2, 4)) and changed.limit == 5


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("encoder.num_point", 3, ["encoder.num_point", "Encoder", "temporal", "border", "num_layers"]),
        ("encodr", 3, ["encodr", "Experiment", "encoder", "betas"]),
        ("encoder.temporal.strides", (1,), ["encoder.temporal.strides", "Attention", "num_points", "dropout"]),
        ("amp.on", True, ["amp.on", "'amp' is False"]),
        ("encoder.num_layers", "6", ["encoder.num_layers", "'6'", "str", "int"]),
        ("encoder.num_layers", 6.0, ["encoder.num_layers", "6.0", "float", "expected int"]),
        ("encoder.num_layers", True, ["encoder.num_layers", "True", "bool"]),
        ("amp", 1, ["amp", "expected bool"]),
        ("encoder.border", "wrap", ["encoder.border", "'wrap'", "'mask' or 'clamp'"]),
        ("encoder.temporal", Encoder(), ["encoder.temporal", "Attention or Shift or None"]),
        ("encoder", None, ["'encoder' is None", "Encoder"]),
        ("betas", (0.9,), ["betas", "tuple[float, float]"]),
        ("short_sides", (1, 2.5), ["short_sides[1]", "2.5"]),
        ("encoder.temporal.dropout", float("nan"), ["encoder.temporal.dropout", "finite"]),
    ],
)
def test_wrong_paths_and_values_are_named(path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        replace_path(Experiment(), path, value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_path_into_an_ablated_slot_is_explained() -> None:
    ablated = replace_path(Experiment(), "encoder.temporal", None)
    with pytest.raises(UserError, match="'encoder.temporal' is None"):
        replace_path(ablated, "encoder.temporal.num_points", 2)


def test_to_dict_is_plain_json_with_class_names() -> None:
    data = to_dict(Experiment(slots=(Attention(1), None)))
    assert data == json.loads(json.dumps(data))
    assert data["type"] == "Experiment" and data["encoder"]["temporal"]["type"] == "Attention"
    assert data["betas"] == [0.9, 0.999] and data["path"] == "x"
    assert data["slots"] == [{"type": "Attention", "num_points": 1, "dropout": 0.0}, None]


experiments = st.builds(
    Experiment,
    encoder=st.builds(
        Encoder,
        temporal=st.none()
        | st.builds(Shift, st.lists(st.integers()).map(tuple))
        | st.builds(Attention, st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        border=st.sampled_from(["mask", "clamp"]),
        num_layers=st.integers(),
    ),
    amp=st.booleans(),
    limit=st.none() | st.integers(),
    name=st.text(),
    slots=st.lists(st.none() | st.builds(Attention)).map(tuple),
)


@dataclass(frozen=True)
class Pair:
    first: int = 1
    second: int = 1

    def __post_init__(self) -> None:
        if self.first != self.second:
            raise UserError(f"first is {self.first}, second is {self.second}")


@dataclass(frozen=True)
class Pairs:
    pair: Pair | None = Pair()
    other: Pair = Pair()


def test_changes_are_checked_together() -> None:
    with pytest.raises(UserError, match="first is 3, second is 1"):
        with_changes(Pairs(), {"pair.first": 3, "other.first": 2, "other.second": 2})
    changed = with_changes(Pairs(), {"pair.first": 3, "other.first": 2, "other.second": 2, "pair.second": 3})
    assert changed == Pairs(Pair(3, 3), Pair(2, 2))
    filled = with_changes(Pairs(None), {"pair": Pair(5, 5), "pair.first": 6, "pair.second": 6})
    assert filled == Pairs(Pair(6, 6))


def test_a_slot_that_is_emptied_or_refilled_forgets_what_was_changed_inside() -> None:
    assert with_changes(Pairs(), {"pair.first": 3, "pair": None}).pair is None
    assert with_changes(Pairs(), {"pair.first": 3, "pair": Pair(2, 2)}).pair == Pair(2, 2)


def test_a_function_sees_the_changes_before_it() -> None:
    assert replace_path(Encoder(), "num_layers", lambda n: 2 * n).num_layers == 12
    refilled = {"encoder": Encoder(num_layers=3), "encoder.num_layers": lambda n: n + 1}
    assert with_changes(Experiment(), refilled).encoder.num_layers == 4
    both = {"encoder.num_layers": 5, "encoder": lambda encoder: dataclasses.replace(encoder, border="clamp")}
    assert with_changes(Experiment(), both).encoder == Encoder(border="clamp", num_layers=5)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(experiments)
def test_from_dict_inverts_to_dict_through_json(config: Experiment) -> None:
    assert from_dict(Experiment, json.loads(json.dumps(to_dict(config)))) == config


@settings(max_examples=50, deadline=None, derandomize=True)
@given(experiments, experiments)
def test_equal_digests_mean_equal_configurations(first: Experiment, second: Experiment) -> None:
    assert (digest(first) == digest(second)) == (first == second)


def test_from_dict_resolves_a_union_at_the_top() -> None:
    assert from_dict(Attention | Shift | None, to_dict(Shift((3,)))) == Shift((3,))
    assert from_dict(Attention | Shift | None, None) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(extra=1), ["has no field extra", "encoder"]),
        (lambda d: d.pop("amp"), ["needs amp"]),
        (lambda d: d.update(type="Run"), ["Run", "expected Experiment"]),
        (lambda d: d["encoder"].update(num_layers="6"), ["Experiment.encoder.num_layers", "'6'"]),
        (lambda d: d["encoder"]["temporal"].update(type="Nothing"), ["Experiment.encoder.temporal", "Nothing"]),
    ],
)
def test_from_dict_is_strict(change: Any, words: list[str]) -> None:
    data = to_dict(Experiment())
    change(data)
    with pytest.raises(UserError) as error:
        from_dict(Experiment, data)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_digest_is_the_hash_of_the_canonical_json() -> None:
    text = '{"dropout":0.1,"num_points":4,"type":"Attention"}'
    assert digest(Attention(dropout=0.1)) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_digest_ignores_how_a_number_or_sequence_is_spelt() -> None:
    assert digest(Attention(dropout=1)) == digest(Attention(dropout=1.0))
    assert digest(Experiment(short_sides=[1, 2])) == digest(Experiment(short_sides=(1, 2)))  # type: ignore[arg-type]


def test_digest_ignores_where_things_lie_and_what_is_left_out() -> None:
    assert digest(Experiment(path="y")) == digest(Experiment())
    assert digest(Experiment(name="b"), without=("name",)) == digest(Experiment(), without=("name",))
    assert digest(Experiment(name="b")) != digest(Experiment())


def test_a_later_field_changes_the_digest_only_when_it_is_used() -> None:
    @dataclass(frozen=True)
    class Train:
        steps: int = 3
        names: tuple[str, ...] = field(default=(), metadata=added_later())

    earlier = digest_of({"type": "Train", "steps": 3})
    assert digest(Train()) == earlier == digest(Train(names=()))
    assert digest(Train(names=("a",))) == digest_of({"type": "Train", "steps": 3, "names": ["a"]}) != earlier
    assert to_dict(Train())["names"] == []


def test_what_was_written_before_a_field_was_added_is_read() -> None:
    @dataclass(frozen=True)
    class Train:
        steps: int = 3
        names: tuple[str, ...] = field(default=(), metadata=added_later())

    assert from_dict(Train, {"type": "Train", "steps": 5}) == Train(5)
    assert from_dict(Train, {"type": "Train", "steps": 5, "names": ["a"]}) == Train(5, ("a",))
    with pytest.raises(UserError, match="Train needs steps; its fields are steps, names"):
        from_dict(Train, {"type": "Train", "names": []})


def test_digest_checks_types() -> None:
    with pytest.raises(UserError, match="Attention.num_points"):
        digest(Attention(num_points="4"))  # type: ignore[arg-type]


def test_importing_needs_no_torch() -> None:
    code = "import sys, vislab.config, vislab.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@dataclass(frozen=True)
class Tokens:
    width: int = 3
    kind: str = field(default="learned", metadata=inference_only())


@dataclass(frozen=True)
class TokenModel:
    tokens: Tokens = Tokens()
    seed: int = field(default=0, metadata=inference_only())


def test_inference_only_fields_are_no_part_of_the_digest() -> None:
    changed = TokenModel(Tokens(kind="zero"), seed=2)
    assert digest(changed) == digest(TokenModel()) != digest(TokenModel(Tokens(width=4)))
    assert inference_settings(changed) == {"tokens.kind": "zero", "seed": 2}
    assert inference_settings(TokenModel()) == {}
    assert to_dict(changed)["tokens"]["kind"] == "zero" and from_dict(TokenModel, to_dict(changed)) == changed
