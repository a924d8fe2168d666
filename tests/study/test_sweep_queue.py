"""Trials shared by processes: taken once, given back, taken over, never lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sweep_cases import opened, rules, space

from vislab.errors import UserError
from vislab.study import sweep_queue
from vislab.study.sweep_queue import Counts, Taken, TrialQueue, identity_of

SPACE = space("k_inter=1..2", "queries=5,10")
STUBBORN = "elsewhere/1/1"  # a process of a machine that cannot be seen from here


class Queues:
    """Several processes' views of one sweep."""

    def __init__(self, folder: Path, total: int = 4, **more: Any) -> None:
        self.url, self.total, self.now = f"sqlite:///{folder}/a.db", total, 0.0
        self.rules = rules(SPACE, **more)

    def one(self, owner: str | None = None, total: int | None = None, **identity: Any) -> TrialQueue:
        queue = opened(self.url, self.rules, total or self.total, **identity)
        queue.clock = lambda: self.now
        if owner is not None:
            queue.owner = owner
        return queue


def finish(queue: TrialQueue, taken: Taken | None, value: float = 1.0) -> None:
    assert taken is not None
    queue.finish(taken, TrialState.COMPLETE, [value], {"seconds": 1.0})


def fail(queue: TrialQueue, taken: Taken | None) -> None:
    assert taken is not None
    queue.finish(taken, TrialState.FAIL, None, {"note": "it broke"})


def states(queue: TrialQueue) -> list[str]:
    return [trial.state.name for trial in queue.trials()]


def test_every_cell_of_a_grid_once_whoever_takes_it(tmp_path: Path) -> None:
    queues = Queues(tmp_path)
    first, second = queues.one(), queues.one(STUBBORN)
    taken = [queue.take() for queue in (first, second, second, first)]
    points = [each.point for each in taken if each is not None]
    assert points == list(queues.rules.cells)
    assert first.take() is None and second.take() is None
    for queue, each in zip((first, second, second, first), taken, strict=True):
        finish(queue, each)
    assert states(first) == ["COMPLETE"] * 4 == states(second)
    assert first.counts() == Counts(complete=4, pruned=0, failed=0, running=0, waiting=0)
    assert [trial.params for trial in first.trials()] == points


def test_trials_that_are_given_back_wait_with_their_values(tmp_path: Path) -> None:
    queues = Queues(tmp_path, sampler="tpe")
    queue = queues.one()
    taken = queue.take()
    assert taken is not None and queue.counts().running == 1
    queue.give_back_all()
    assert queue.counts() == Counts(0, 0, 0, 0, 4) and states(queue) == ["WAITING"]
    again = queues.one().take()
    assert again is not None and (again.number, again.point) == (taken.number, taken.point)


def test_a_dead_process_s_trial_is_taken_over_at_once_on_its_machine(tmp_path: Path) -> None:
    queues = Queues(tmp_path)
    dead = queues.one(sweep_queue.this_process().rpartition("/")[0] + "/1")  # started at another time
    lost = dead.take()
    heir = queues.one().take()
    assert lost is not None and heir is not None and heir.number == lost.number


def test_a_silent_process_of_another_machine_counts_as_dead_after_a_while(tmp_path: Path) -> None:
    queues = Queues(tmp_path, total=1)
    far, here = queues.one(STUBBORN), queues.one()
    lost = far.take()
    assert lost is not None
    assert here.take() is None and here.may_come()  # not known yet whether it is alive
    queues.now = sweep_queue.SECONDS_TO_LIVE
    far.storage.set_trial_user_attr(lost.trial._trial_id, sweep_queue.BEAT, 1)
    assert here.take() is None and not here.may_come()  # it beats: left to finish
    queues.now += sweep_queue.SECONDS_TO_LIVE + 1
    heir = here.take()
    assert heir is not None and heir.number == lost.number
    finish(far, lost, 1.0)  # it was alive after all: the trial ends once
    finish(here, heir, 2.0)
    (trial,) = here.trials()
    assert trial.values == [1.0]


def test_beats_go_on_while_a_process_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_queue, "SECONDS_BETWEEN_BEATS", 0.01)
    queue = Queues(tmp_path).one()
    taken = queue.take()
    assert taken is not None
    with queue.beating():
        while queue.storage.get_trial(taken.trial._trial_id).user_attrs.get(sweep_queue.BEAT, 0) < 2:
            pass


def test_a_process_that_lost_a_tie_leaves_the_trial_to_the_other(tmp_path: Path) -> None:
    """A waiting trial is named before it is taken; the name of one that was too late does not keep it from others."""
    queues = Queues(tmp_path, total=1)
    first, late = queues.one(), queues.one()
    first.take()
    first.give_back_all()
    (waiting,) = late.trials()
    assert first._claim(waiting) and not late._claim(waiting)
    first.storage.set_trial_user_attr(waiting._trial_id, sweep_queue.OWNER, late.owner)
    assert late.take() is not None


def test_more_trials_than_asked_for_are_never_run(tmp_path: Path) -> None:
    """Two processes that take the last one at the same moment make two rows; one of them waits for a larger sweep."""
    queues = Queues(tmp_path, total=1)
    one, other = queues.one(), queues.one(STUBBORN)
    finish(one, one.take())
    assert other._take_new() is None
    assert other.take() is None and other.counts() == Counts(1, 0, 0, 0, 0)
    larger = queues.one(total=3)
    numbers = []
    while (taken := larger.take()) is not None:
        numbers.append(taken.number)
        finish(larger, taken)
    assert numbers == [1, 2] and [trial.params for trial in larger.trials()] == list(queues.rules.cells[:3])


def test_failed_trials_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    queues = Queues(tmp_path, total=3)
    queue = queues.one()
    finish(queue, queue.take())
    fail(queue, queue.take())
    assert queue.retry_failed() == 1
    again = queue.take()
    assert again is not None and (again.number, again.point) == (2, queues.rules.cells[1])
    fail(queue, again)
    assert queue.counts() == Counts(1, 0, 1, 0, 1)
    assert queue.retry_failed() == 1  # of the last attempt
    finish(queue, queue.take())
    finish(queue, queue.take())
    assert states(queue) == ["COMPLETE"] * 3 and queue.take() is None
    assert [trial.params for trial in queue.trials()] == list(queues.rules.cells[:3])


def test_one_name_one_sweep(tmp_path: Path) -> None:
    queues = Queues(tmp_path)
    queues.one(seeds=1)
    assert queues.one(seeds=1).total == 4
    with pytest.raises(UserError, match=r"has a sweep 'sweep' with another seeds: 1, here 2; choose another --name"):
        queues.one(seeds=2)
    storage = queues.one(seeds=1).storage
    assert (
        identity_of(storage, "sweep") == {"trials": 4, "space": "s", "seeds": 1} and identity_of(storage, "x") is None
    )


def test_studies_of_others_are_left_alone(tmp_path: Path) -> None:
    queues = Queues(tmp_path)
    storage = queues.one(name="mine").storage
    foreign = optuna.create_study(storage=storage, study_name="theirs")
    foreign.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(UserError, match="a study 'theirs' that sweep.py did not make"):
        queues.one(name="theirs")
    optuna.create_study(storage=storage, study_name="unnamed", direction="maximize")  # its maker was killed
    assert queues.one(name="unnamed").take() is not None


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random"])
def test_samplers_suggest_within_the_space_and_depend_on_the_trials_alone(tmp_path: Path, sampler: str) -> None:
    """The same history gives the same next point, whichever process asks."""
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        queues = Queues(tmp_path / name, total=7, sampler=sampler)
        points = []
        for _ in range(7):
            queue = queues.one()
            taken = queue.take()
            assert taken is not None
            points.append(taken.point)
            finish(queue, taken, float(sum(value for value in taken.point.values() if isinstance(value, int))))
        runs.append(points)
    assert runs[0] == runs[1]
    assert all(point["k_inter"] in (1, 2) and point["queries"] in (5, 10) for point in runs[0])
    assert len({str(point) for point in runs[0]}) > 1


def test_pruning_by_the_median(tmp_path: Path) -> None:
    queues = Queues(tmp_path, total=8, sampler="random", pruner="median", resources=(10, 20))
    queue = queues.one()
    for value in range(6):
        taken = queue.take()
        assert taken is not None and not queue.gives_up(taken, float(value), 10)
        finish(queue, taken, float(value))
    bad = queue.take()
    assert bad is not None and queue.gives_up(bad, 0.5, 10) and queue.gives_up(bad, 0.5, 10)  # asked again: the same
    queue.finish(bad, TrialState.PRUNED, None, {})
    good = queue.take()
    assert good is not None and not queue.gives_up(good, 9.0, 10)
    assert queue.counts() == Counts(6, 1, 0, 1, 0)
