"""The worker's parts, and the real process with runs that cannot work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vislab.errors import UserError
from vislab.study.worker import EventWatcher, error_sentence


class Events:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, event: str, **fields: Any) -> None:
        self.sent.append({"event": event, **fields})


def test_progress_is_thinned_but_the_last_step_is_sent() -> None:
    events, now = Events(), iter([0.0, 0.01, 0.02, 0.5, 0.51])
    watcher = EventWatcher(events, 2, clock=lambda: next(now))  # type: ignore[arg-type]
    for step in range(1, 6):
        watcher.update("train", step, 5, loss=1.0 / step)
    assert [event["step"] for event in events.sent] == [1, 4, 5]
    assert events.sent[0] == {"event": "progress", "run": 2, "stage": "train", "step": 1, "total": 5, "loss": 1.0}


def test_notices_are_passed_on() -> None:
    events = Events()
    EventWatcher(events, 0).notice("waiting")  # type: ignore[arg-type]
    assert events.sent == [{"event": "notice", "run": 0, "text": "waiting"}]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("file.json: field x is 3, expected 4"), "file.json: field x is 3, expected 4"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_error_sentence(error: Exception, sentence: str) -> None:
    assert error_sentence(error) == sentence


def test_process_reports_a_run_that_makes_no_sense_and_waits_for_more(tmp_path: Path) -> None:
    """Standard output carries events only; the traceback goes to the log; the end of input ends the process."""
    log = tmp_path / "worker.log"
    job = {"runs": [{"type": "Nonsense"}], "store": str(tmp_path), "device": "cpu", "threads": 1, "log": str(log)}
    process = subprocess.Popen(
        [sys.executable, "-m", "vislab.study.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    failed, idle = (json.loads(process.stdout.readline()) for _ in range(2))
    assert failed["event"] == "failed" and failed["run"] == 0 and "Nonsense" in failed["error"]
    assert idle == {"event": "idle"}
    process.stdin.close()
    assert process.wait(30) == 0
    assert "Traceback" in log.read_text()
