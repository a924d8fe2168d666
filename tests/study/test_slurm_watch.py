"""Jobs on a cluster that is played by the test: what is submitted, watched, told and noted."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_launch import Recorder, job

from vislab.errors import UserError
from vislab.records import RunStore, write_json
from vislab.study import slurm_watch
from vislab.study.declare import Paper
from vislab.study.launch import Outcome, failure_path
from vislab.study.plan import Job
from vislab.study.slurm import Resources, Submission, TaskState, progress_path
from vislab.study.slurm_task import JobTask
from vislab.study.slurm_watch import Pace, launch_on_slurm

AT_ONCE = Pace(looks=0.0, queries=0.0, settle=0.0)
Step = Callable[["Cluster"], None]


class Cluster:
    """`queue` and `submit` of Slurm. Each question lets the next of `steps` happen, which change `states`."""

    def __init__(self, steps: Iterator[Step]) -> None:
        self.steps = steps
        self.submitted: list[list[JobTask]] = []
        self.names: list[str] = []
        self.states: dict[int, TaskState] = {}

    def submit(self, submission: Submission, tasks: list[JobTask], parameters: dict[str, Any]) -> None:
        self.submitted.append([pickle.loads(pickle.dumps(task)) for task in tasks])
        self.names.append(submission.name)
        self.states = {index: TaskState("17", "PENDING", "Priority") for index in range(len(tasks))}

    def queue(self, known: list[Submission]) -> dict[tuple[str, int], TaskState]:
        if self.submitted:
            next(self.steps, lambda _: None)(self)
        return {(known[-1].name, index): state for index, state in self.states.items()} if known else {}

    def turn(self, index: int, state: str) -> None:
        self.states[index] = TaskState("17", state)


def play(monkeypatch: pytest.MonkeyPatch, *steps: Step) -> Cluster:
    cluster = Cluster(iter(steps))
    monkeypatch.setattr(slurm_watch, "submit", cluster.submit)
    monkeypatch.setattr(slurm_watch, "queue", cluster.queue)
    monkeypatch.setattr("vislab.study.slurm.queue", cluster.queue)
    return cluster


def launch(store: RunStore, *jobs: Job) -> tuple[Outcome, Recorder, list[str]]:
    display, said = Recorder(), list[str]()
    outcome = launch_on_slurm(
        jobs, store, display, Resources(), device="cpu", title="t", say=said.append, pace=AT_ONCE
    )  # fmt: skip
    return outcome, display, said


def finish(store: RunStore, done: Job) -> None:
    for run in range(len(done.runs)):
        write_json(store.eval_dir(*done.keys(run)) / "result.json", {})


def fail(store: RunStore, failed: Job, sentence: str) -> None:
    write_json(failure_path(store, *failed.keys(0)), {"error": sentence})


def interrupt(_: Cluster) -> None:
    raise KeyboardInterrupt


def test_jobs_are_submitted_as_one_array_and_watched_to_their_end(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, jobs = RunStore(tmp_path), [job(paper, seed) for seed in range(2)]

    def at_work(cluster: Cluster) -> None:
        cluster.turn(0, "RUNNING")
        told = {"times": 1, "notices": ["waits"], "stage": "train", "step": 3, "total": 9, "loss": 0.5}
        write_json(cluster.submitted[0][0].progress, told)

    def done(cluster: Cluster) -> None:
        finish(store, jobs[0])
        fail(store, jobs[1], "it broke")

    cluster = play(monkeypatch, lambda _: None, at_work, lambda _: None, done)
    outcome, display, said = launch(store, *jobs)
    assert [[task.job.seed for task in tasks] for tasks in cluster.submitted] == [[0, 1]]
    assert outcome.finished == [jobs[0]] and outcome.failed == {jobs[1].keys(0): "it broke"}
    assert display.calls == [
        ("started", 0), ("notice", 0, "waits"), ("progress", 0, "train", 3, 0.5), ("finished", 0, True),
        ("started", 1), ("failed", 1, "it broke"), ("finished", 1, False),
    ]  # fmt: skip
    assert said[0] == "Slurm job 17: 2 of 2 runs submitted, 0 were before; 2 waiting (Priority)"
    assert said[1] == "Slurm job 17: 1 at work, 1 waiting (Priority)"


def test_ctrl_c_leaves_the_jobs_and_the_same_command_finds_them(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, jobs = RunStore(tmp_path), [job(paper, seed) for seed in range(2)]
    cluster = play(monkeypatch, lambda _: None, interrupt, lambda _: None, lambda _: finish(store, jobs[1]))
    first, _, said = launch(store, *jobs)
    assert first.interrupted and not first.finished and not first.failed
    assert said[-1] == "The runs go on: the same command watches them again, scancel ends Slurm job 17."
    second, _, said = launch(store, jobs[1])
    assert len(cluster.submitted) == 1 and second.finished == [jobs[1]]
    assert said[0].startswith("Slurm job 17: 0 of 1 runs submitted, 1 were before")


def test_what_no_task_does_is_submitted_beside_what_one_does(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that wants more of a training than the task at work on it was told is another one's."""
    store, known = RunStore(tmp_path), job(paper, 0)
    cluster = play(monkeypatch, lambda _: None, interrupt, lambda _: None, interrupt)
    launch(store, known)
    evaluation = replace(known.runs[0].evaluation, top_k=7)
    wider = replace(known, runs=(*known.runs, replace(known.runs[0], evaluation=evaluation)))
    launch(store, known, job(paper, 1), wider)
    assert [[len(task.job.runs) for task in tasks] for tasks in cluster.submitted] == [[1], [1, 2]]


def test_a_task_that_left_nothing_failed(paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, lost = RunStore(tmp_path), job(paper, 0, 1)
    finish(store, replace(lost, runs=lost.runs[:1]))
    steps = lambda cluster: cluster.turn(0, "OUT_OF_MEMORY")  # noqa: E731
    outcome, display, _ = launch_with(monkeypatch, store, lost, lambda _: None, steps)
    assert list(outcome.failed) == [lost.keys(1)]
    (sentence,) = outcome.failed.values()
    assert "ended as OUT_OF_MEMORY without a result" in sentence and str(tmp_path) not in sentence
    assert json.loads(failure_path(store, *lost.keys(1)).read_text()) == {"error": sentence}
    assert display.of("finished") == [(0, False)]


def launch_with(
    monkeypatch: pytest.MonkeyPatch, store: RunStore, one: Job, *steps: Step
) -> tuple[Outcome, Recorder, list[str]]:
    play(monkeypatch, *steps)
    return launch(store, one)


def test_a_preempted_job_is_told_of_and_waited_for(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, taken = RunStore(tmp_path), job(paper, 0)
    states = ["RUNNING", "COMPLETING", "PENDING", "PENDING", "RUNNING"]
    steps: list[Step] = [lambda cluster, state=state: cluster.turn(0, state) for state in states]  # type: ignore[misc]
    outcome, display, _ = launch_with(monkeypatch, store, taken, *steps, lambda _: finish(store, taken))
    assert outcome.finished == [taken]
    assert display.of("notice") == [(0, "the cluster took its node; it waits, to go on from its checkpoint")]


def test_a_queue_that_does_not_answer_is_asked_again(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, one = RunStore(tmp_path), job(paper, 0)

    def silent(_: Cluster) -> None:
        raise UserError("squeue does not answer")

    outcome, _, said = launch_with(
        monkeypatch, store, one, lambda _: None, silent, silent, silent, lambda _: finish(store, one)
    )
    assert outcome.finished == [one]
    assert [text for text in said if "asking again" in text] == ["Slurm job 17: squeue does not answer; asking again"]


def test_failures_of_earlier_attempts_are_not_taken_for_new_ones(
    paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, again = RunStore(tmp_path), job(paper, 0)
    fail(store, again, "old")
    outcome, _, _ = launch_with(monkeypatch, store, again, lambda _: None, lambda _: finish(store, again))
    assert not outcome.failed and not failure_path(store, *again.keys(0)).exists()


def test_progress_files_are_the_submissions_own(paper: Paper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = play(monkeypatch, interrupt)
    launch(RunStore(tmp_path), job(paper, 0))
    (task,) = cluster.submitted[0]
    folder = tmp_path.resolve() / "slurm" / cluster.names[0]
    assert task.progress == progress_path(Submission(folder, ()), 0) and task.device == "cpu"
