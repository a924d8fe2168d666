"""Whether the process that works on a trial is still there."""

from __future__ import annotations

import os
import subprocess
import sys

from vislab.study.sweep_owner import is_gone, machine, this_process


def test_a_process_is_there_until_it_ends() -> None:
    code = "from vislab.study.sweep_owner import this_process; print(this_process(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    owner = process.stdout.readline().strip()
    assert owner.startswith(f"{machine()}/{process.pid}/")
    assert is_gone(owner) is False
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet buried
    assert is_gone(owner) is True
    process.communicate()
    assert is_gone(owner) is True


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    assert is_gone(this_process()) is False
    assert is_gone(f"{machine()}/{os.getpid()}/1") is True


def test_of_other_machines_nothing_is_known() -> None:
    assert is_gone(f"elsewhere/{os.getpid()}/1") is None
    assert is_gone("") is None
