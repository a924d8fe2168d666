"""Works off a sweep with worker processes: trials become runs, runs become numbers, numbers go back to the queue.

A trial is one run per seed. Runs are those of tables: what the run store holds is not done again, trials that differ at
inference only share their training, and two that want the same training do not wait for each other with a worker each.
With a pruner the first seed is judged at its rungs and at its end, and the trial again after every further seed;
without one all seeds are run side by side.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from vislab.engine.config import RunConfig
from vislab.errors import UserError
from vislab.records import RunStore, read_json
from vislab.study.launch import WORKER, Display, Outcome, launch_from
from vislab.study.plan import Job
from vislab.study.sweep_queue import Taken, TrialQueue
from vislab.study.sweep_rungs import rung_path, rungs
from vislab.study.sweep_space import Point, Space
from vislab.study.sweep_tracking import untracked
from vislab.study.sweep_values import shown

SECONDS_BETWEEN_LOOKS = 2.0  # at the queue, while there is nothing to take
DEATHS_ALLOWED = 5  # of workers, at one run; the sixth makes the trial fail, since it may be the run that kills them

Measured = Mapping[str, Mapping[str, float | None]]  # number's name -> value, std, ci_low, ci_high, n


class SweepDisplay(Display, Protocol):
    """What a sweep tells whoever watches, beside what jobs tell."""

    def looked(self, trials: Sequence[FrozenTrial]) -> None:
        """All trials of the sweep as they stand, those of other processes too."""
        ...

    def trial_started(self, number: int, point: Point) -> None: ...

    def trial_ended(self, number: int, state: TrialState, measured: Measured, note: str) -> None:
        """note: the error's sentence, or why the trial was given up."""
        ...


@dataclass(frozen=True)
class Search:
    """What a sweep searches.

    objectives: names of numbers, in the order of the queue's directions. seeds: runs of a trial, averaged. tracking:
    families that the objectives need. measure: finished runs of a trial -> its numbers; raises UserError where they
    cannot be had. needs_runs: whether any objective does; if none does, nothing is trained. dataset: as displays call
    it. sinks: see `Job`.
    """

    space: Space
    objectives: tuple[str, ...]
    seeds: int
    measure: Callable[[Sequence[RunConfig]], Measured]
    tracking: tuple[str, ...] = ()
    needs_runs: bool = True
    pruned: bool = False
    dataset: str = ""
    sinks: tuple[str, ...] = ()


def work_off(
    search: Search,
    trials: TrialQueue,
    store: RunStore,
    display: SweepDisplay,
    *,
    device: str,
    parallel: int,
    processes: int = 1,
    command: Sequence[str] = WORKER,
) -> Outcome:
    """Take trials until none is left, `parallel` runs at a time, each on so many processes. Ctrl-C gives back what is
    not done."""
    source = _TrialSource(search, trials, store, display, 2 * parallel)
    try:
        with trials.beating():
            return launch_from(
                source, store, display, device=device, parallel=parallel, processes=processes, command=command
            )
    finally:
        trials.give_back_all()
        trials.give_back_orphans()


LegKey = tuple[str, str, int | None]  # train_key, eval_key, and where it pauses


@dataclass(frozen=True)
class _Leg:
    """A part of a run that one job does: all that is left of it, or up to a rung."""

    run: RunConfig
    pause_at: int | None = None

    @functools.cached_property
    def key(self) -> LegKey:
        return self.run.train_key, self.run.eval_key, self.pause_at


@dataclass
class _Stage:
    """Legs that are done side by side, after which the trial is judged. spent: its training steps by then."""

    legs: list[_Leg]
    spent: int


@dataclass
class _Work:
    """A trial at hand. pending: keys of the legs of its current stage, the first of `stages`, that are not done."""

    taken: Taken
    runs: list[RunConfig]
    stages: list[_Stage]
    begun: float
    pending: set[LegKey] = field(default_factory=set)


class _TrialSource:
    """The jobs of a sweep (`launch.JobSource`)."""

    def __init__(
        self, search: Search, trials: TrialQueue, store: RunStore, display: SweepDisplay, most_at_once: int
    ) -> None:
        self.search, self.trials, self.store, self.display = search, trials, store, display
        self.most_at_once = most_at_once
        self.works: dict[int, _Work] = {}  # by number of the trial
        self.ready: list[_Leg] = []
        self.active: dict[str, int] = Counter()  # train_key -> jobs at work on it
        self.deaths: Counter[LegKey] = Counter()
        self.look_again = -SECONDS_BETWEEN_LOOKS

    def next(self) -> Job | None:
        while True:
            leg = next((leg for leg in self.ready if not self._being_trained(leg)), None)
            if leg is not None:
                self.ready.remove(leg)
                self.active[leg.key[0]] += 1
                return self._job(leg)
            if len(self.works) >= self.most_at_once or time.monotonic() < self.look_again:
                return None
            taken = self.trials.take()
            self.display.looked(self.trials.trials())
            if taken is None:
                self.look_again = time.monotonic() + SECONDS_BETWEEN_LOOKS
                return None
            self._begin(taken)

    def pause(self) -> float | None:
        return SECONDS_BETWEEN_LOOKS if self.works or self.trials.may_come() else None

    def reported(self, job: Job, event: dict[str, Any]) -> None:
        pass  # the store has it

    def died(self, job: Job, sentence: str) -> bool:
        leg = _Leg(job.runs[0], job.pause_at)
        self.deaths[leg.key] += 1
        wanted = any(leg.key in work.pending for work in self.works.values())
        if not wanted or self.deaths[leg.key] > DEATHS_ALLOWED:
            return False
        self.active[job.train_key] -= 1
        self.ready.insert(0, leg)
        return True

    def ended(self, job: Job, failed: dict[tuple[str, str], str]) -> None:
        key = _Leg(job.runs[0], job.pause_at).key
        self.active[job.train_key] -= 1
        self.look_again = -SECONDS_BETWEEN_LOOKS
        for work in [work for work in self.works.values() if key in work.pending]:
            if failed:
                self._end(work, TrialState.FAIL, note=next(iter(failed.values())))
            else:
                work.pending.discard(key)
                self._advance(work)

    def _begin(self, taken: Taken) -> None:
        self.display.trial_started(taken.number, taken.point)
        work = self.works[taken.number] = _Work(taken, [], [], time.monotonic())
        try:
            run = self.search.space.configure(taken.point)
        except UserError as error:
            self._end(work, TrialState.FAIL, note=str(error))
            return
        work.runs = [replace(run, seed=seed) for seed in range(self.search.seeds)]
        work.stages = _stages(work.runs, self.search)
        self._start_stage(work)

    def _start_stage(self, work: _Work) -> None:
        """Ask for what the stage lacks; if that is nothing, go on."""
        missing = [leg for leg in work.stages[0].legs if not self._is_done(leg)]
        work.pending = {leg.key for leg in missing}
        asked = {leg.key for leg in self.ready} | {
            key for other in self.works.values() if other is not work for key in other.pending
        }
        self.ready += [leg for leg in missing if leg.key not in asked]
        self._advance(work)

    def _advance(self, work: _Work) -> None:
        """If the stage is done, judge the trial: it ends, is given up, or goes on to the next stage."""
        if work.pending:
            return
        stage = work.stages.pop(0)
        if not work.stages:
            self._complete(work)
            return
        value = self._value_after(stage)
        if value is not None and self.trials.gives_up(work.taken, value, stage.spent):
            self._end(work, TrialState.PRUNED, note=f"given up after {stage.spent} training steps, AP {value:.1f}")
            return
        self._start_stage(work)

    def _complete(self, work: _Work) -> None:
        try:
            measured = self.search.measure(work.runs)
        except UserError as error:
            self._end(work, TrialState.FAIL, note=str(error))
            return
        values = [measured[name]["value"] for name in self.search.objectives]
        undefined = [name for name, value in zip(self.search.objectives, values, strict=True) if value is None]
        if undefined:
            self._end(work, TrialState.FAIL, measured, note=f"{undefined[0]} is undefined on this data")
            return
        self._end(work, TrialState.COMPLETE, measured, [float(value) for value in values if value is not None])

    def _end(
        self, work: _Work, state: TrialState, measured: Measured | None = None,
        values: list[float] | None = None, note: str = "",
    ) -> None:  # fmt: skip
        del self.works[work.taken.number]
        still_asked = {key for other in self.works.values() for key in other.pending}
        self.ready = [leg for leg in self.ready if leg.key in still_asked]
        notes: dict[str, Any] = {
            "measured": measured or {},
            "runs": [[run.train_key, run.eval_key] for run in work.runs],
            "seconds": round(time.monotonic() - work.begun, 3),
        }
        self.trials.finish(work.taken, state, values, notes | ({"note": note} if note else {}))
        self.display.looked(self.trials.trials())
        self.display.trial_ended(work.taken.number, state, measured or {}, note)

    def _value_after(self, stage: _Stage) -> float | None:
        """AP in percent: at a rung that of the checkpoint, after whole runs their mean."""
        found: list[float | None] = []
        for leg in stage.legs:
            if leg.pause_at is not None:
                path = rung_path(self.store, leg.run, leg.pause_at)
                found.append(read_json(path)["AP"] if path.exists() else None)
            else:
                result = self.store.result(*leg.key[:2])
                found.append(None if result is None else result["metrics"]["AP"])
        defined = [100 * value for value in found if value is not None]
        return sum(defined) / len(defined) if len(defined) == len(found) else None

    def _is_done(self, leg: _Leg) -> bool:
        if not self.search.needs_runs:
            return True
        if leg.pause_at is not None:
            rung = rung_path(self.store, leg.run, leg.pause_at)
            return rung.exists() or self.store.trained(leg.key[0]) is not None
        finished = self.store.result(*leg.key[:2]) is not None
        return finished and not untracked(leg.run, self.store, self.search.tracking)

    def _being_trained(self, leg: _Leg) -> bool:
        """Whether a worker of ours would only wait for another one."""
        train_key = leg.key[0]
        return self.active[train_key] > 0 and self.store.trained(train_key) is None

    def _job(self, leg: _Leg) -> Job:
        key = leg.key
        point = next(work.taken.point for work in self.works.values() if key in work.pending)
        label = ", ".join(f"{name} {shown(value)}" for name, value in point.items())
        run = leg.run
        search = self.search
        return Job(key[0], label, search.dataset, run.seed, (run,), leg.pause_at, search.tracking, search.sinks)


def _stages(runs: list[RunConfig], search: Search) -> list[_Stage]:
    """Without a pruner, all at once. With one: the first seed up to each rung and to its end, then seed by seed."""
    if not search.pruned:
        return [_Stage([_Leg(run) for run in runs], sum(run.train.steps for run in runs))]
    first, steps = runs[0], runs[0].train.steps
    stages = [_Stage([_Leg(first, step)], step) for step in rungs(first.train)]
    for count in range(1, len(runs) + 1):  # every one judged by all seeds so far
        stages.append(_Stage([_Leg(run) for run in runs[:count]], count * steps))
    return stages
