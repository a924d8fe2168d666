"""Work in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vislab.errors import UserError
from vislab.metrics.parallel import Workers


def described(task: int) -> tuple[int, bool]:
    if task < 0:
        raise UserError(f"task {task}")
    return task * task, "torch" in sys.modules


def killed(task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_in_order_and_no_torch() -> None:
    done: list[int] = []
    with Workers(2) as workers:
        assert workers.map(described, range(20), done.append) == [(n * n, False) for n in range(20)]
        assert done == list(range(1, 21))
        with pytest.raises(UserError, match="task -1"):  # the first in order, whichever came first
            workers.map(described, [5, -1, 3, -2])


def test_one_worker_is_this_process() -> None:
    assert Workers(1).map(lambda task: os.getpid(), [1, 2, 3]) == [os.getpid()] * 3
    assert Workers(4).map(lambda task: os.getpid(), [1]) == [os.getpid()]
    assert Workers(4).map(described, []) == []


def test_killed_worker_is_named() -> None:
    with Workers(2) as workers, pytest.raises(UserError, match="one of 2 worker processes was killed"):
        workers.map(killed, range(4))


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_number(number: int) -> None:
    with pytest.raises(UserError, match="workers is .*, expected an integer >= 1"):
        Workers(number)


def test_interrupt_ends_all_processes_without_a_traceback(tmp_path: Path, heeds_ctrl_c: None) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from vislab.metrics.parallel import Workers\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        with Workers(2) as workers:\n"
        "            workers.map(time.sleep, [0.01] + [60.0] * 8, lambda done: print('started', flush=True))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(7)\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=50)
    assert process.returncode == 7 and error == ""
