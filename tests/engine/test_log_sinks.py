"""Sinks hear what a run notes down; they change nothing of it, and cannot stop it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from engine_runs import small_run

from vislab.engine import execute
from vislab.engine.log_sinks import SINKS, Logged, checked_sinks, flat_numbers, open_sinks
from vislab.engine.progress import Silent
from vislab.errors import UserError
from vislab.records import RunStore

LOGGED = Logged(Path("unused"), "key", "key", {})


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.opened: list[tuple[Logged, int]] = []
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.closed = 0

    def __call__(self, logged: Logged, first_step: int) -> Heard:
        self.opened.append((logged, first_step))
        return self

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self.lines.append((step, dict(numbers)))

    def close(self) -> None:
        self.closed += 1


class Broken(Heard):
    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        raise ConnectionError("no network")


class Notices(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def test_a_run_is_the_same_with_sinks_and_they_hear_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, broken, notices = Heard(), Broken(), Notices()
    monkeypatch.setitem(SINKS, "heard", heard)
    monkeypatch.setitem(SINKS, "broken", broken)
    run = small_run(steps=3)
    plain = execute(run, RunStore(tmp_path / "plain"), "cpu", Silent(), threads=1)
    told = execute(run, RunStore(tmp_path / "told"), "cpu", notices, threads=1, sinks=("broken", "heard"))
    assert (told.train_key, told.eval_key, told.metrics) == (plain.train_key, plain.eval_key, plain.metrics)
    stores = [RunStore(tmp_path / name) for name in ("plain", "told")]
    assert len({store.trained(run.train_key)["weights_sha256"] for store in stores}) == 1
    journals = [(store.train_dir(run.train_key) / "metrics.jsonl").read_text().splitlines() for store in stores]
    timeless = [[{**json.loads(line), "seconds": 0, "peak_memory_bytes": 0} for line in lines] for lines in journals]
    assert timeless[0] == timeless[1]
    records = [json.loads(line) for line in journals[1]]
    assert heard.lines[:2] == [(record["step"], flat_numbers(record)) for record in records]
    assert {"losses/class", "learning_rate", "gradient_norm"} <= heard.lines[0][1].keys()
    measured = {name: value for name, value in told.metrics.items() if value is not None}
    assert heard.lines[2:] == [(3, measured)]
    training, evaluation = heard.opened
    assert training[1] == 2 and training[0].config["type"] == "RunConfig"
    assert (evaluation[0].folder, evaluation[0].training) == (told.folder, run.train_key) and heard.closed == 2
    sentence = "--log broken: ConnectionError: no network; the run goes on without it"
    assert notices.texts == [sentence, sentence], "once for the training, once for the evaluation"


def test_a_sink_is_opened_by_the_first_numbers_and_closed_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setitem(SINKS, "heard", heard)
    with open_sinks(["heard"], LOGGED, print):
        pass
    assert not heard.opened and not heard.closed
    with pytest.raises(RuntimeError), open_sinks(["heard"], LOGGED, print) as sink:
        sink.write(1, {"loss": 2.0})
        raise RuntimeError
    assert heard.lines == [(1, {"loss": 2.0})] and heard.closed == 1


def test_names_are_checked_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked_sinks("") == ()
    with pytest.raises(UserError, match="there is no 'mlflow'; expected any of tensorboard, wandb"):
        checked_sinks("mlflow")
    (tmp_path / "no_such_package").mkdir()  # which Python takes for a package, of a kind
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SINKS, "no_such_package", Heard())
    with pytest.raises(UserError, match=r"needs the package no_such_package: pip install -e '.\[no_such_package\]'"):
        checked_sinks("no_such_package")


def test_tensorboard_reads_what_was_written_and_not_what_a_killed_process_had(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = Logged(tmp_path, "key", "key", {"seed": 0})
    for steps, offset in (((2, 4, 6), 0.0), ((4, 8), 100.0)):  # the second goes on from a checkpoint at step 3
        with open_sinks(["tensorboard"], logged, pytest.fail) as sink:
            for step in steps:
                sink.write(step, {"loss": step + offset, "losses/dice": 1.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss", "losses/dice"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(2, 2.0), (4, 104.0), (8, 108.0)]


def test_wandb_sends_nothing_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody listens
    with open_sinks(["wandb"], Logged(tmp_path, "key", "key", {"seed": 0}), pytest.fail) as sink:
        sink.write(2, {"loss": 2.0})
    (kept,) = tmp_path.glob("wandb/offline-run-*/run-key.wandb")
    assert kept.stat().st_size > 0
