"""A launcher that finishes runs without training, for tests of everything around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vislab.metrics.video_ap import match
from vislab.records import RunStore, write_json
from vislab.study.launch import Outcome, failure_path
from vislab.study.plan import Job


class FakeLauncher:
    """Finishes every run with the same predictions; runs of the seeds in `failing` fail; remembers what it did."""

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.failing, self.launched = failing, list[Job]()

    def __call__(self, jobs: Sequence[Job], store: RunStore, *_: Any, **__: Any) -> Outcome:
        self.launched += jobs
        outcome = Outcome()
        for job in jobs:
            for index, run in enumerate(job.runs):
                if run.seed in self.failing:
                    outcome.failed[job.keys(index)] = "it broke"
                    write_json(failure_path(store, *job.keys(index)), {"error": "it broke"})
                else:
                    finish(store, job.keys(index), run.seed)
        return outcome


def finish(store: RunStore, keys: tuple[str, str], seed: int) -> None:
    folder = store.eval_dir(*keys)
    record = {"train_key": keys[0], "eval_key": keys[1], "seed": seed, "train_seconds": 60, "eval_seconds": 6}
    write_json(folder / "result.json", record | {"peak_memory_bytes": 2**30})
    mask = {"size": [2, 2], "counts": [0, 4]}
    truth = {
        "videos": [{"id": 1, "width": 2, "height": 2, "length": 1}, {"id": 2, "width": 2, "height": 2, "length": 1}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [
            {"id": i, "video_id": i, "category_id": 1, "iscrowd": 0, "segmentations": [mask], "areas": [4]}
            for i in (1, 2)
        ],
    }
    found = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [mask]}
    match(truth, [found]).save(folder / "matches.npz")
