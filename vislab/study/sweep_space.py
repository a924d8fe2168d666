"""The search space of a sweep: what it varies, over which values, and the run that a point of it is.

k_inter,clip_length                short names of the paper, over its own values
k_inter=1..6,window=2,4            over others (`sweep_values` has the grammar)
model.encoder.fusion               any dotted path of the configuration, over what its type suggests
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from optuna import distributions

from vislab.config import with_changes
from vislab.engine.config import RunConfig
from vislab.errors import UserError
from vislab.study.declare import Dimension
from vislab.study.sweep_values import Choices, Scalar, Values, derived_values, parsed_values, place_of, shown

Point = Mapping[str, Scalar]  # name of an axis -> its value


@dataclass(frozen=True)
class Axis:
    """One thing that is varied. changes: value -> all changes, as in `Dimension`; None sets the path alone."""

    name: str
    path: str
    values: Values
    changes: Callable[[Any], Mapping[str, Any]] | None = None

    def distribution(self) -> distributions.BaseDistribution:
        """As optuna's samplers see it."""
        values = self.values
        if isinstance(values, Choices):
            return distributions.CategoricalDistribution(values.values)
        if values.whole:
            return distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
        return distributions.FloatDistribution(values.low, values.high, log=values.log)

    def all_changes(self, value: Scalar) -> dict[str, Any]:
        """Everything that the value sets."""
        setting = self.values.setting(value)
        return {self.path: setting} if self.changes is None else dict(self.changes(setting))


@dataclass(frozen=True)
class Space:
    """All axes, and the configuration whose fields they change."""

    axes: tuple[Axis, ...]
    base: RunConfig

    def configure(self, point: Point) -> RunConfig:
        """The run at a point, seed and all else as in the base.

        An axis's own path wins over what another axis changes along with its own; slots are filled before what is in
        them is changed. Raises UserError where the values do not go together.
        """
        changes, own = dict[str, Any](), dict[str, Any]()
        for axis in self.axes:
            found = axis.all_changes(point[axis.name])
            changes |= found
            own |= {path: value for path, value in found.items() if path == axis.path}
        together = changes | own
        order = sorted(together, key=lambda path: path.count("."))
        return with_changes(self.base, {path: together[path] for path in order})

    def cells(self) -> list[Point] | None:
        """Every combination, each once; None where some axis has no finite number of values.

        Runs that share a training stand as far apart as possible, so that workers side by side train different ones.
        """
        listed = [values for axis in self.axes if (values := axis.values.listed()) is not None]
        if len(listed) < len(self.axes):
            return None
        names = [axis.name for axis in self.axes]
        groups: dict[str, list[Point]] = {}
        for values in itertools.product(*listed):
            point = dict(zip(names, values, strict=True))
            groups.setdefault(self._training(point), []).append(point)
        rounds = itertools.zip_longest(*groups.values())
        return [point for each in rounds for point in each if point is not None]

    def describe(self) -> dict[str, str]:
        """Name -> path and values, as texts: what makes two spaces the same."""
        return {axis.name: f"{axis.path} {axis.values}" for axis in self.axes}

    def _training(self, point: Point) -> str:
        try:
            return self.configure(point).train_key
        except UserError:  # the trial will say so when its turn comes
            return str(point)


def parsed_space(texts: Sequence[str], dimensions: Mapping[str, Dimension], base: RunConfig) -> Space:
    """The space that `--over` describes. Raises UserError for unknown names, for values that the configuration does not
    take, and for models that cannot be built with them."""
    axes = [_axis(name, values, dimensions, base) for name, values in _items(texts, dimensions)]
    for first, second in itertools.combinations(axes, 2):
        if first.path == second.path:
            raise UserError(f"--over: {first.name} and {second.name} both set {first.path}")
    space = Space(tuple(axes), base)
    _check(space)
    return space


def _items(texts: Sequence[str], dimensions: Mapping[str, Dimension]) -> Iterator[tuple[str, str]]:
    """Names with their values, empty where none are given; values are separated by commas, as names are."""
    name, values = "", list[str]()
    for part in [part.strip() for text in texts for part in text.split(",")]:
        head, equals, tail = (piece.strip() for piece in part.partition("="))
        if values and not equals and not _is_name(head, dimensions):
            values.append(part)
            continue
        if name:
            yield name, ",".join(values)
        name, values = head, [tail] if equals else []
        if not name:
            raise UserError(f"--over {','.join(texts)!r}: expected names separated by commas, such as k_inter=1..4")
        if equals and not tail:
            raise UserError(f"--over {name}=: expected values, such as {name}=1..4")
    yield name, ",".join(values)


def _is_name(text: str, dimensions: Mapping[str, Dimension]) -> bool:
    """Whether a text after values is the next name, not the next value."""
    return text in dimensions or ("." in text and ".." not in text and text[0].isalpha())


def _axis(name: str, text: str, dimensions: Mapping[str, Dimension], base: RunConfig) -> Axis:
    if name not in dimensions and "." not in name:
        close = difflib.get_close_matches(name, dimensions, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(
            f"--over: there is no dimension '{name}'{hint}; there are {', '.join(dimensions)}, and any dotted path of "
            "the configuration, such as train.learning_rate"
        )
    known = dimensions.get(name, Dimension(name, ""))
    text = text or known.values
    try:
        place = place_of(base, known.path)
        fits = partial(_fits, base, known.path)
        values = parsed_values(text, place) if text else derived_values(place, fits)
    except UserError as error:
        raise UserError(f"--over {name}: {error}") from None
    return Axis(name, known.path, values, known.changes)


def _fits(base: RunConfig, path: str, value: Any) -> bool:
    try:
        _build(with_changes(base, {path: value}), path)
    except UserError:
        return False
    return True


def _build(run: RunConfig, path: str) -> None:
    """Raises UserError where the model cannot be built with what the path has been set to."""
    if path.startswith("model"):
        with torch.device("meta"):
            run.model.build()


def _check(space: Space) -> None:
    """Every value of a list and both ends of a range must give a model, with the other axes at their first value or
    with them at their last."""
    ends = {axis.name: axis.values.ends() for axis in space.axes}
    first, last = ({name: values[end] for name, values in ends.items()} for end in (0, -1))
    for axis in space.axes:
        for value in ends[axis.name]:
            wrong = _wrong(space, axis, first | {axis.name: value})
            if wrong and _wrong(space, axis, last | {axis.name: value}):
                raise UserError(f"--over {axis.name}={shown(value)}: {wrong}")


def _wrong(space: Space, axis: Axis, point: Point) -> str:
    """What is wrong with the run at a point, empty if nothing is."""
    try:
        _build(space.configure(point), axis.path)
    except UserError as error:
        return str(error)
    return ""
