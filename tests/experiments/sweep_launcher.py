"""Works off a sweep's jobs in this process, without training."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fake_launcher import finish

from vislab.records import RunStore, read_json, write_json
from vislab.study.launch import Display, JobSource, Outcome
from vislab.study.plan import Job


class FakeLaunchFrom:
    """Finishes every run with the same predictions; those with K_inter in `failing` fail; remembers what it did."""

    def __init__(self, failing: Collection[int] = (), interrupt_after: int | None = None) -> None:
        self.failing, self.interrupt_after, self.launched = failing, interrupt_after, list[Job]()

    def __call__(self, source: JobSource, store: RunStore, display: Display, **_: Any) -> Outcome:
        outcome = Outcome()
        while (job := source.next()) is not None:
            if len(self.launched) == self.interrupt_after:
                outcome.interrupted = True
                return outcome
            self.launched.append(job)
            display.started(job)
            failed = {job.keys(0): "it broke"} if job.runs[0].model.encoder.temporal.num_points in self.failing else {}  # type: ignore[union-attr]
            if not failed:
                finish_run(store, job)
            display.finished(job, not failed)
            source.ended(job, failed)
        return outcome


def finish_run(store: RunStore, job: Job) -> None:
    """With everything in its record that sweeps measure."""
    finish(store, job.keys(0), job.seed)
    path = store.eval_dir(*job.keys(0)) / "result.json"
    write_json(path, read_json(path) | {"infer_seconds": 1.6, "parameters": 2_000_000 + job.seed})
    write_json(store.train_dir(job.train_key) / "trained.json", {})
