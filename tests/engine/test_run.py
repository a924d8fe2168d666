"""execute: a small real model on the synthetic benchmark, from configuration to result."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_runs import small_run
from safetensors.torch import load_file

import vislab.engine.run as engine_run
from vislab.config import from_dict
from vislab.data import VideoDataset, load_dataset
from vislab.engine import InitialWeights, RunConfig, Silent, execute, load_trained
from vislab.errors import UserError
from vislab.records import RunStore, exclusive


class Stages(Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notices: list[str] = []

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        self.stages.append(stage)

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return RunStore(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def finished(store: RunStore) -> RunConfig:
    run = small_run()
    result = execute(run, store, "cpu", Silent(), threads=1)
    assert result.trained and result.evaluated
    return run


def test_the_store_holds_everything_and_nothing_half(store: RunStore, finished: RunConfig) -> None:
    folder = store.train_dir(finished.train_key)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "env.json", "eval", "lock", "metrics.jsonl", "trained.json", "weights.safetensors",
    ]  # fmt: skip
    evaluation = sorted(path.name for path in store.eval_dir(finished.train_key, finished.eval_key).iterdir())
    assert {"config.json", "matches.npz", "predictions.json", "result.json"} <= set(evaluation)
    assert not [name for name in evaluation if name.endswith(".tmp")]
    assert from_dict(RunConfig, json.loads((folder / "config.json").read_text())) == finished


def test_the_records_say_what_was_done(store: RunStore, finished: RunConfig) -> None:
    result = store.result(finished.train_key, finished.eval_key)
    trained = store.trained(finished.train_key)
    assert result is not None and trained is not None
    model = finished.model.build()
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert (result["steps"], result["seed"], result["n_videos"]) == (3, 0, 2)
    assert 0 <= result["metrics"]["AP"] <= 1 and result["train_seconds"] > 0 and result["eval_seconds"] > 0
    assert result["peak_memory_bytes"] >= trained["peak_memory_bytes"] > 2**20
    assert result["data_fingerprint"] == load_dataset(finished.evaluation.data, "valid").fingerprint()
    assert result["train_data_fingerprint"] == load_dataset(finished.data, "train").fingerprint()
    assert result["env"]["threads"] == 1 and result["env"]["device"] == "cpu"
    weights = store.train_dir(finished.train_key) / "weights.safetensors"
    assert trained["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert trained["warm_start"] is None


def test_what_is_done_is_not_done_again(store: RunStore, finished: RunConfig) -> None:
    watcher = Stages()
    result = execute(finished, store, "cpu", watcher)
    assert not result.trained and not result.evaluated and watcher.stages == []
    assert result.record == store.result(finished.train_key, finished.eval_key)
    assert result.metrics == result.record["metrics"]


def test_another_evaluation_does_not_train_again(store: RunStore, finished: RunConfig) -> None:
    other = replace(finished, evaluation=replace(finished.evaluation, top_k=3))
    watcher = Stages()
    result = execute(other, store, "cpu", watcher, threads=1)
    assert not result.trained and result.evaluated and "train" not in watcher.stages
    (entry,) = store.runs()
    assert entry.eval_keys == sorted([finished.eval_key, other.eval_key])


def test_the_same_run_elsewhere_gives_the_same_bits(store: RunStore, finished: RunConfig, tmp_path: Path) -> None:
    other = RunStore(tmp_path)
    result = execute(finished, other, "cpu", Silent(), threads=1)
    here, there = (s.trained(finished.train_key) for s in (store, other))
    assert here is not None and there is not None and here["weights_sha256"] == there["weights_sha256"]
    assert result.metrics == store.result(finished.train_key, finished.eval_key)["metrics"]  # type: ignore[index]


def test_trained_models_are_loaded_for_use(store: RunStore, finished: RunConfig) -> None:
    model = load_trained(finished, store, torch.device("cpu"))
    weights = load_file(store.train_dir(finished.train_key) / "weights.safetensors")
    assert not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_weights_of_one_run_start_another(store: RunStore, finished: RunConfig, tmp_path: Path) -> None:
    source = store.train_dir(finished.train_key) / "weights.safetensors"
    train = replace(finished.train, steps=0)
    run = replace(finished, train=train, init=InitialWeights.of(source), model=replace(finished.model, num_queries=5))
    other = RunStore(tmp_path)
    execute(run, other, "cpu", Silent(), threads=1)
    trained = other.trained(run.train_key)
    assert trained is not None and trained["steps"] == 0
    assert trained["warm_start"]["fresh"] == trained["warm_start"]["dropped"] != []
    assert all("query" in name or "reference" in name for name in trained["warm_start"]["fresh"])
    weights, initial = load_file(other.train_dir(run.train_key) / "weights.safetensors"), load_file(source)
    assert all(torch.equal(weights[name], initial[name]) for name in trained["warm_start"]["loaded"])


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    run = small_run()
    with pytest.raises(UserError, match="model.num_classes is 2, expected at least 3"):
        execute(replace(run, model=replace(run.model, num_classes=2)), RunStore(tmp_path), "cpu", Silent())
    assert not list(tmp_path.iterdir())


def test_a_finished_run_of_other_data_is_not_passed_off(
    store: RunStore, finished: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changed:
        def __init__(self, dataset: VideoDataset) -> None:
            self.name, self.categories = dataset.name, dataset.categories

        def fingerprint(self) -> str:
            return "another"

    monkeypatch.setattr(engine_run, "load_dataset", lambda *arguments: Changed(load_dataset(*arguments)))
    with pytest.raises(UserError, match="now has another; remove the folder or restore the data"):
        execute(finished, store, "cpu", Silent())


def test_a_second_process_waits_and_says_so(store: RunStore, finished: RunConfig) -> None:
    watcher = Stages()
    with exclusive(store.train_dir(finished.train_key)):
        thread = threading.Thread(target=execute, args=(finished, store, "cpu", watcher))
        thread.start()
        while not watcher.notices:
            thread.join(0.01)
        assert thread.is_alive() and "another process trains this run" in watcher.notices[0]
    thread.join()
    assert watcher.stages == []
