"""A sweep on Slurm: an array of equal tasks that share its trials through the storage, and whoever watches them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import TrialState

from vislab.errors import UserError
from vislab.records import RunStore, exclusive
from vislab.study.slurm import (
    Resources,
    Submission,
    TaskState,
    active_tasks,
    array_names,
    new_submission,
    queue,
    standing,
    submissions,
    submit,
)
from vislab.study.slurm_task import ScriptTask
from vislab.study.slurm_watch import Pace
from vislab.study.sweep_display import measured_of
from vislab.study.sweep_queue import OUTCOME, TrialQueue
from vislab.study.sweep_run import SweepDisplay


def sweep_on_slurm(
    task: ScriptTask,
    trials: TrialQueue,
    store: RunStore,
    display: SweepDisplay,
    resources: Resources,
    *,
    claim: str,
    workers: int,
    device: str,
    processes: int = 1,
    say: Callable[[str], None],
    pace: Pace | None = None,
) -> bool:
    """See to it that so many tasks of the sweep are in the queue, and watch until no trial is left or no task is.

    claim: what the sweep is called, unlike any other. processes: that share each run. Returns whether Ctrl-C ended the
    watching; the tasks go on. Raises UserError where the cluster takes no jobs.
    """
    root = Path(store.root)
    with exclusive(root / "slurm"):
        before = active_tasks(root, frozenset([claim]))
        new = max(0, workers - len(before))
        if new:
            submission = new_submission(root, trials.name, [frozenset([claim])] * new)
            submit(submission, [task] * new, resources.parameters(new, device, processes))
    watch = _Watch(
        [each for each in submissions(root) if any(claim in tasks for tasks in each.claims)], trials, display, say
    )
    try:
        watch.ask(f"{new} tasks submitted, {len(before)} were before; ")
        watch.until_over(pace or Pace())
    except KeyboardInterrupt:
        say(f"The tasks go on: the same command watches them again, scancel ends Slurm {watch.arrays}.")
        return True
    return False


class _Watch:
    """Turns what the storage and the queue say into what a display is told."""

    def __init__(
        self, submissions: Sequence[Submission], trials: TrialQueue, display: SweepDisplay, say: Callable[[str], None]
    ) -> None:
        self.submissions, self.trials, self.display, self.say = submissions, trials, display, say
        self.shown = {trial.number: trial.state for trial in trials.trials()}
        self.states: list[TaskState] = []
        self.arrays = ", ".join(submission.name for submission in submissions)
        self.said = ""

    def ask(self, news: str = "") -> None:
        """Ask the queue, and tell how things stand, after the news. Where it has no answer, all is as it was."""
        try:
            self.states = [state for state in queue(self.submissions).values() if not state.ended]
        except UserError as error:
            text = f"{error}; asking again"
        else:
            self.arrays = array_names(self.states) or self.arrays
            text = standing(self.states)
        if text and text != self.said:
            self.say(f"Slurm {self.arrays}: {news}{text}")
            self.said = text

    def until_over(self, pace: Pace) -> None:
        asked = seen = time.monotonic()  # when the queue was asked last, and had a task last
        while True:
            now = time.monotonic()
            if now - asked >= pace.queries:
                self.ask()
                asked = now
            seen = now if self.states else seen
            self._look()
            left = self.trials.total - self.trials.counts().ended
            if not left:
                return
            if now - seen >= pace.settle:
                self.say(f"Slurm {self.arrays}: no task is left, {left} trials are; the same command submits new ones")
                return
            time.sleep(pace.looks)

    def _look(self) -> None:
        """What became of the trials since."""
        trials = self.trials.trials()
        self.display.looked(trials)
        for trial in trials:
            before = self.shown.get(trial.number)
            if trial.state == before or (
                trial.state == TrialState.RUNNING and len(trial.params) < len(self.trials.rules.axes)
            ):
                continue  # or not all of its values are known yet
            self.shown[trial.number] = trial.state
            if trial.state == TrialState.RUNNING:
                self.display.trial_started(trial.number, trial.params)
            elif trial.state.is_finished():
                note = trial.user_attrs.get(OUTCOME, {}).get("note", "")
                self.display.trial_ended(trial.number, trial.state, measured_of(trial), note)
