"""Runs of the store as pages about them see them: found by key, told apart by what is set differently.

Nothing is taken from code that trains: what a run was lies in its folder.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vislab.errors import UserError
from vislab.records import RunStore, read_json
from vislab.report.tables.evidence import noted_failures

_APART = ("seed", "init.path")  # settings in which runs of one group may differ: a number, and where a file lay
_LONGEST_LABEL = 48


@dataclass(frozen=True)
class StoredRun:
    """A training run, finished or not, and one evaluation of it; eval_key is empty where there is none."""

    store: RunStore
    train_key: str
    eval_key: str = ""

    @property
    def folder(self) -> Path:
        return self.store.train_dir(self.train_key)

    @property
    def eval_folder(self) -> Path:
        return self.store.eval_dir(self.train_key, self.eval_key)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The whole configuration, with this evaluation's."""
        config = read_json(self.folder / "config.json")
        return config | ({"evaluation": read_json(self.eval_folder / "config.json")} if self.eval_key else {})

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def dataset(self) -> str:
        """What reports call the data that it was evaluated on: a preset by its name, a path by its last part."""
        name: str = self.config["evaluation"]["data"]["name"]
        return name if name.startswith("synthetic") else Path(name).name or name

    @functools.cached_property
    def trained(self) -> dict[str, Any] | None:
        return self.store.trained(self.train_key)

    @functools.cached_property
    def result(self) -> dict[str, Any] | None:
        return self.store.result(self.train_key, self.eval_key) if self.eval_key else None

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """Of the evaluation, else of the training; empty if nothing was noted."""
        if self.result is not None and "env" in self.result:
            return self.result["env"]
        path = self.folder / "env.json"
        return read_json(path) if path.exists() else {}

    @property
    def failures(self) -> list[str]:
        """Sentences of what has failed and has not been made good since."""
        if self.result is not None:
            return []
        folders = [self.eval_folder] if self.eval_key else sorted(self.folder.glob("eval/*"))
        return noted_failures(folders)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their training seed only. label: what tells the group from others. dataset: as reports call
    what the runs were evaluated on."""

    label: str
    dataset: str
    runs: tuple[StoredRun, ...]

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(run.train_key, run.eval_key) for run in self.runs]

    @property
    def trainings(self) -> tuple[str, ...]:
        return tuple(run.train_key for run in self.runs)


def find_runs(named: Sequence[str], runs: Path) -> list[StoredRun]:
    """Every evaluation of the runs that are named, each once; a run that has none stands for itself.

    named: folders of runs or of evaluations in any store, or beginnings of keys in the store `runs`. Raises UserError
    for what is none, or could be several.
    """
    found = [run for name in named for run in _find(name, runs)]
    return list({(run.folder.resolve(), run.eval_key): run for run in found}.values())


def grouped(runs: Iterable[StoredRun]) -> list[Group]:
    """Runs with equal settings but for the seed together, in order of seeds; groups in the order of their first run."""
    members: dict[str, list[StoredRun]] = {}
    for run in runs:
        settings = {path: value for path, value in flat(run.config).items() if path not in _APART}
        members.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
    groups = [sorted(group, key=lambda run: run.seed) for group in members.values()]
    labels = _labels([group[0].config for group in groups])
    return [Group(label, group[0].dataset, tuple(group)) for label, group in zip(labels, groups, strict=True)]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value of everything that is set."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        inner = isinstance(value, Mapping) and value
        found |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Dotted path -> the value in each configuration, of what is not the same in all; None where it is not set.

    What is inside of a slot that some fill and others leave empty is not listed beside the slot's type.
    """
    settings = [flat(config) for config in configs]
    paths = [path for path in dict.fromkeys(path for each in settings for path in each) if path not in _APART]
    found = {path: [each.get(path) for each in settings] for path in paths}
    apart = {path: values for path, values in found.items() if any(value != values[0] for value in values)}
    types = {path.removesuffix(".type") for path in apart if path.endswith(".type")}
    return {
        path: values
        for path, values in apart.items()
        if not any(path.startswith(f"{slot}.") and path != f"{slot}.type" for slot in types) and path not in types
    }


def _find(name: str, runs: Path) -> list[StoredRun]:
    folder = Path(name).resolve()
    if folder.parent.name == "eval" and (folder / "result.json").exists():
        run = folder.parent.parent
        return [StoredRun(RunStore(run.parent), run.name, folder.name)]
    if not (folder / "config.json").exists():
        folder = _by_key(name, runs)
    store = RunStore(folder.parent)
    evaluations = sorted(path.parent.name for path in folder.glob("eval/*/result.json"))
    return [StoredRun(store, folder.name, key) for key in evaluations or [""]]


def _by_key(beginning: str, runs: Path) -> Path:
    keys = sorted(path.parent.name for path in runs.glob("*/config.json"))
    fitting = [key for key in keys if key.startswith(beginning)]
    if len(fitting) == 1 or beginning in fitting:
        return runs / (beginning if beginning in fitting else fitting[0])
    if not fitting:
        expected = f"the folder of a run, or the beginning of one of the {len(keys)} keys in {runs}"
        raise UserError(f"{beginning}: no such run; expected {expected}")
    raise UserError(f"{beginning}: {len(fitting)} keys in {runs} begin so, such as {fitting[0]} and {fitting[1]}")


def _labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is set differently, if that is short, else a letter each; the data set is named elsewhere."""
    apart = {path: values for path, values in differences(configs).items() if not path.endswith("data.name")}
    labels = [
        ", ".join(f"{_short(path)} {_word(values[i])}" for path, values in apart.items()) for i in range(len(configs))
    ]
    if all(label and len(label) <= _LONGEST_LABEL for label in labels):
        return labels
    if len(configs) == 1 or not apart:
        return [str(config["model"]["type"]).removesuffix("Config") for config in configs]
    return [_letter(number) for number in range(len(configs))]


def _short(path: str) -> str:
    """The last part that says something."""
    return path.removesuffix(".type").rpartition(".")[2]


def _word(value: Any) -> str:
    return "none" if value is None else str(value).removesuffix("Config")


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"Z{number - 25}"
