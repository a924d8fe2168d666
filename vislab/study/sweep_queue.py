"""The trials of a sweep, shared by all processes that work on it, whichever machine they run on.

A trial is a row in optuna's storage. Its number is its place in the sweep: of a grid, the cell. Taking one makes a new
row, or turns a waiting one into a running one; both are single steps of the storage, so no two processes take the same.
A process that stops gives its trials back: they wait again, with their values. One that dies cannot; but every running
trial names its process and carries a beat, and who sees that the process is gone, or the beat still for too long, gives
the trial back in its name. Should a process be taken for dead by mistake, two work on one trial: the run store lets
them train once, and the trial ends once. So nothing is lost, run twice, or left running.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from vislab.errors import UserError
from vislab.study.sweep_owner import is_gone, this_process
from vislab.study.sweep_samplers import make_pruner, make_sampler
from vislab.study.sweep_space import Axis, Point

IDENTITY, TOTAL = "vislab", "trials"  # attributes of a study
OWNER, BEAT, RETRY, OUTCOME = "worker", "beat", "retry_of", "outcome"  # of its trials
_ENDS = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
SECONDS_BETWEEN_BEATS = 15.0
SECONDS_TO_LIVE = 75.0  # without a beat, for processes of other machines


@dataclass(frozen=True)
class Rules:
    """How a sweep picks its trials. sampler: grid, tpe, nsga2, gp or random. pruner: none, median or hyperband.

    cells: of the grid, in the order in which they are run. directions: "maximize" or "minimize", for each objective.
    resources: least and most training steps after which a trial is judged (`sweep_samplers.make_pruner`).
    """

    axes: tuple[Axis, ...]
    sampler: str
    pruner: str
    directions: tuple[Literal["minimize", "maximize"], ...]
    cells: Sequence[Point] = ()
    resources: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Taken:
    """A trial that this process works on."""

    number: int
    point: Point
    trial: Trial


@dataclass(frozen=True)
class Counts:
    """How far the sweep has come, all processes together. waiting: to be run, whether a row exists or not."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], total: int) -> Counts:
        states = [trial.state for trial in trials]
        complete, pruned, failed = (states.count(state) for state in _ENDS)
        running = states.count(TrialState.RUNNING)
        return cls(complete, pruned, failed, running, max(0, total - complete - pruned - failed - running))

    @property
    def ended(self) -> int:
        return self.complete + self.pruned + self.failed


@dataclass
class TrialQueue:
    """The sweep `name` in a storage, with `total` trials. Use `open_queue`."""

    storage: BaseStorage
    name: str
    rules: Rules
    total: int
    owner: str = field(default_factory=this_process)
    clock: Callable[[], float] = time.monotonic
    _held: dict[int, int] = field(default_factory=dict)  # number -> id in the storage, of what this process works on
    _beats: dict[int, tuple[Any, float]] = field(default_factory=dict)  # id -> last beat of others, when first seen
    _alive: set[int] = field(default_factory=set)  # ids whose beat was seen to go on

    def __post_init__(self) -> None:
        pruner = make_pruner(self.rules.pruner, *self.rules.resources)
        self.study = optuna.load_study(study_name=self.name, storage=self.storage, pruner=pruner)
        self._id = self.storage.get_study_id_from_name(self.name)

    def trials(self) -> list[FrozenTrial]:
        """Every trial that counts, in order: those that the sweep has, those beyond that are done anyhow, and of failed
        ones that are tried again the last attempt."""
        ranks = self._ranks(self.storage.get_all_trials(self._id, deepcopy=False))
        latest: dict[int, FrozenTrial] = {}
        for trial, rank in ranks:
            if rank < self.total or trial.state.is_finished():
                latest[rank] = trial
        return [latest[rank] for rank in sorted(latest)]

    def counts(self) -> Counts:
        return Counts.of(self.trials(), self.total)

    def take(self) -> Taken | None:
        """The next trial, with its values; None if none is left to take at the moment."""
        known = self.storage.get_all_trials(self._id, deepcopy=False)
        if self._give_back_orphans(known):
            known = self.storage.get_all_trials(self._id, deepcopy=False)
        for trial, rank in self._ranks(known):
            if trial.state == TrialState.WAITING and rank < self.total and self._claim(trial):
                return self._with_values(trial.number, trial._trial_id, rank)
        if sum(RETRY not in trial.user_attrs for trial in known) >= self.total:
            return None
        return self._take_new()

    def gives_up(self, taken: Taken, value: float, step: int) -> bool:
        """Whether the pruner gives the trial up, whose first objective has this value after so many training steps."""
        if step not in self.storage.get_trial(taken.trial._trial_id).intermediate_values:  # of an earlier attempt
            taken.trial.report(value, step)
        return taken.trial.should_prune()

    def finish(self, taken: Taken, state: TrialState, values: Sequence[float] | None, notes: Mapping[str, Any]) -> None:
        """Note what the trial came to; its notes first, so that a finished trial has them."""
        trial_id = taken.trial._trial_id
        try:
            self.storage.set_trial_user_attr(trial_id, OUTCOME, dict(notes))
            self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)  # if given back in our name meanwhile
            self.study.tell(taken.number, values, state, skip_if_finished=True)
        except UpdateFinishedTrialError:  # by the process that took us for dead; its results are the same runs'
            pass
        self._held.pop(taken.number, None)

    def give_back_all(self) -> None:
        """What this process works on waits again."""
        for number, trial_id in list(self._held.items()):
            self._give_back(trial_id)
            self._held.pop(number, None)

    def give_back_orphans(self) -> None:
        """What nobody works on any more waits again."""
        self._give_back_orphans(self.storage.get_all_trials(self._id, deepcopy=False))

    def may_come(self) -> bool:
        """Whether waiting makes sense though there was nothing to take: somebody may just have given a trial back, or
        a process of another machine that runs one has not yet been seen alive. Those that were are left to finish."""
        known = self.storage.get_all_trials(self._id, deepcopy=False)
        unseen = any(not self._seen_alive(trial) for trial in self._running_elsewhere(known))
        return unseen or self.counts().waiting > 0

    def retry_failed(self) -> int:
        """Let failed trials be tried again, each with its values, in a new row. Returns how many."""
        failed = [trial for trial in self.trials() if trial.state == TrialState.FAIL]
        for trial in failed:
            attributes = {RETRY: trial.user_attrs.get(RETRY, trial.number)}
            self.study.enqueue_trial(trial.params, user_attrs=attributes)
        return len(failed)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """While in this block, show that this process is alive."""
        stop = threading.Event()

        def beat() -> None:
            count = 0
            while not stop.wait(SECONDS_BETWEEN_BEATS):
                count += 1
                for trial_id in list(self._held.values()):
                    try:
                        self.storage.set_trial_user_attr(trial_id, BEAT, count)
                    except Exception:  # the storage is away for a moment, or the trial has just ended
                        continue

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _ranks(self, trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, int]]:
        """Each trial with its place in the sweep; one that is tried again has the place of the first attempt."""
        places: dict[int, int] = {}
        following = 0
        for trial in trials:
            first = trial.user_attrs.get(RETRY)
            places[trial.number] = following if first is None else places[first]
            following += first is None
        return [(trial, places[trial.number]) for trial in trials]

    def _claim(self, trial: FrozenTrial) -> bool:
        """Named before it is taken, so that a running trial always has a name; named again in case of a tie."""
        try:
            self.storage.set_trial_user_attr(trial._trial_id, OWNER, self.owner)
            if not self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                return False
            self.storage.set_trial_user_attr(trial._trial_id, OWNER, self.owner)
        except UpdateFinishedTrialError:
            return False
        return True

    def _take_new(self) -> Taken | None:
        template = create_trial(state=TrialState.RUNNING, user_attrs={OWNER: self.owner})
        trial_id = self.storage.create_new_trial(self._id, template)
        ranks = {trial._trial_id: (trial, rank) for trial, rank in self._ranks(self.study.get_trials(deepcopy=False))}
        trial, rank = ranks[trial_id]
        if rank >= self.total:  # others took the last ones at the same moment
            self._give_back(trial_id)
            return None
        return self._with_values(trial.number, trial_id, rank)

    def _with_values(self, number: int, trial_id: int, rank: int) -> Taken:
        self._held[number] = trial_id
        if self.rules.sampler == "grid":
            self.storage.set_trial_system_attr(trial_id, "fixed_params", dict(self.rules.cells[rank]))
        self.study.sampler = make_sampler(self.rules.sampler, seed=number)
        trial = Trial(self.study, trial_id)
        point = {axis.name: _suggested(trial, axis) for axis in self.rules.axes}
        return Taken(number, point, trial)

    def _give_back(self, trial_id: int) -> None:
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _unchanged(self, seen: FrozenTrial) -> bool:
        """Whether nobody has taken the trial since it was looked at."""
        now = self.storage.get_trial(seen._trial_id)
        return now.state == TrialState.RUNNING and now.user_attrs.get(OWNER) == seen.user_attrs.get(OWNER)

    def _running_elsewhere(self, known: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        held = self._held.values()
        return [trial for trial in known if trial.state == TrialState.RUNNING and trial._trial_id not in held]

    def _give_back_orphans(self, known: Sequence[FrozenTrial]) -> bool:
        """Whether there were any."""
        orphans = [trial for trial in self._running_elsewhere(known) if self._is_orphan(trial)]
        for trial in orphans:
            if self._unchanged(trial):
                self._give_back(trial._trial_id)
        return bool(orphans)

    def _is_orphan(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER, "")
        gone = True if owner == self.owner else is_gone(owner)  # ours, but not held: a tie with the one that has it
        if gone is not None:
            return gone
        beat = owner, trial.user_attrs.get(BEAT)
        known, since = self._beats.setdefault(trial._trial_id, (beat, self.clock()))
        if known != beat:
            self._beats[trial._trial_id] = beat, self.clock()
            self._alive.add(trial._trial_id)
            return False
        return self.clock() - since > SECONDS_TO_LIVE

    def _seen_alive(self, trial: FrozenTrial) -> bool:
        return trial._trial_id in self._alive or is_gone(trial.user_attrs.get(OWNER, "")) is False


def open_queue(
    storage: BaseStorage, name: str, rules: Rules, total: int, identity: Mapping[str, Any], where: str
) -> TrialQueue:
    """The sweep of this name, made if there is none.

    identity: what it is a sweep of, as JSON; where: the storage, as messages call it. Raises UserError if the name
    belongs to another sweep.
    """
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=list(rules.directions))
        study.set_user_attr(IDENTITY, dict(identity))
    except DuplicatedStudyError:
        study = _checked_study(storage, name, identity, where)
    if study.user_attrs.get(TOTAL) != total:
        study.set_user_attr(TOTAL, total)
    return TrialQueue(storage, name, rules, total)


def identity_of(storage: BaseStorage, name: str) -> dict[str, Any] | None:
    """What the sweep of this name is one of, and `TOTAL`, its trials; None if there is none."""
    for study in storage.get_all_studies():
        if study.study_name == name and IDENTITY in study.user_attrs:
            return {TOTAL: study.user_attrs.get(TOTAL), **study.user_attrs[IDENTITY]}
    return None


def _checked_study(storage: BaseStorage, name: str, identity: Mapping[str, Any], where: str) -> optuna.Study:
    study = optuna.load_study(study_name=name, storage=storage)
    found = study.user_attrs.get(IDENTITY)
    if found is None and not study.get_trials(deepcopy=False):  # its maker was killed before it could say
        study.set_user_attr(IDENTITY, dict(identity))
        return study
    if found is None:
        raise UserError(f"{where} has a study {name!r} that sweep.py did not make; choose another --name")
    for key in identity:
        if found.get(key) != identity[key]:
            raise UserError(
                f"{where} has a sweep {name!r} with another {key}: {_text(found.get(key))}, here "
                f"{_text(identity[key])}; choose another --name"
            )
    return study


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {text}" for name, text in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _suggested(trial: Trial, axis: Axis) -> Any:
    """The trial's value on an axis: what it has already, what is fixed, or what the sampler says."""
    kind = axis.distribution()
    if isinstance(kind, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(axis.name, kind.choices)
    if isinstance(kind, optuna.distributions.IntDistribution):
        return trial.suggest_int(axis.name, kind.low, kind.high, log=kind.log)
    assert isinstance(kind, optuna.distributions.FloatDistribution)
    return trial.suggest_float(axis.name, kind.low, kind.high, log=kind.log)
