"""Told to stop in the middle of a training: a checkpoint, then what the signal does anyhow."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from test_train import CONFIG, Watcher, assert_same_bits, log_lines, run

from vislab.engine.stopping import Stopped, stop_requests


class Told(Watcher):
    """Gets the signal after a step: before the checkpoint of the next one is due."""

    def __init__(self, after: int, number: int) -> None:
        super().__init__()
        self.after, self.number = after, number

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        super().update(stage, step, total, loss=loss)
        if step == self.after:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def heard() -> list[int]:
    """What reaches this process once the training is over."""
    numbers: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _: numbers.append(number)) for each in (signal.SIGTERM, signal.SIGUSR2)
    }
    yield numbers  # type: ignore[misc]
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_checkpoint_is_written_and_the_signal_passed_on(tmp_path: Path, heard: list[int], number: int) -> None:
    with pytest.raises(Stopped, match="after step 6"):
        run(tmp_path, Told(5, number))
    assert heard == [number]
    assert (tmp_path / "checkpoint-00000006.json").exists()


def test_the_run_ends_as_one_that_was_never_stopped(tmp_path: Path, heard: list[int]) -> None:
    expected, _ = run(tmp_path / "whole", Watcher())
    for after in (1, 6, CONFIG.steps - 1):
        with pytest.raises(Stopped):
            run(tmp_path / "parts", Told(after, signal.SIGTERM))
    found, elapsed = run(tmp_path / "parts", Watcher())
    assert_same_bits(found, expected)
    assert elapsed.step == CONFIG.steps
    steps = [line["step"] for line in log_lines(tmp_path / "whole")]
    assert [line["step"] for line in log_lines(tmp_path / "parts")] == steps


def test_without_a_signal_nothing_is_stopped_and_handlers_are_as_before(tmp_path: Path, heard: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(tmp_path, Watcher())
    assert signal.getsignal(signal.SIGTERM) is before and heard == []


def test_other_threads_are_left_alone() -> None:
    answers: list[bool] = []

    def work() -> None:
        with stop_requests() as told:
            answers.append(told())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]


def test_a_process_with_the_default_is_ended_by_the_signal() -> None:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with stop_requests() as told:
            os.kill(os.getpid(), signal.SIGTERM)
            if not told():
                os._exit(1)
        os._exit(2)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
