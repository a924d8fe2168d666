"""Scripts under torchrun, `torchrun --nnodes 2 --nproc-per-node 8 ... SCRIPT`: one run at a time, on all processes.

In rank 0 the script does what it always does, but its worker (`launch`) is rank 0 of a team. In every other process
the script is not run: it only starts a worker whenever rank 0 starts one, which joins the team. They meet in the store
of torchrun's own agent: session n, one worker in each process, is announced there under a key of its own.
"""

from __future__ import annotations

import datetime
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

FOREVER = datetime.timedelta(days=30)
_SESSIONS, _WORK, _END = "vislab/sessions", "work", "end"


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun, or another one that sets its variables, has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def run_script(main: Callable[[], int]) -> int:
    """The script's exit code, `main()`; under torchrun as said above."""
    if not started_by_torchrun():
        return main()
    if os.environ["RANK"] != "0":
        return _follow()
    code = 1
    try:
        code = main()
    finally:
        announce(f"{_END} {code}")
    return code


def announce(what: str = _WORK) -> int:
    """By rank 0: the others start a worker, too, or end with its exit code. Returns the number of the session."""
    store = meeting_place()
    number = store.add(_SESSIONS, 1) - 1
    store.set(_key(number), what)
    return number


def meeting_place() -> Store:
    """Where processes find each other before they are a team."""
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=datetime.timedelta(minutes=5))


def _follow() -> int:
    store = meeting_place()
    for number in itertools.count():
        store.wait([_key(number)], FOREVER)
        what, _, code = store.get(_key(number)).decode().partition(" ")
        if what == _END:
            return int(code)
        command = [sys.executable, "-m", "vislab.study.worker", str(number)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as worker:
            failed = worker.wait()
        if failed:
            return failed if failed > 0 else 128 - failed
    raise AssertionError("sessions never end by themselves")


def _key(number: int) -> str:
    return f"vislab/session/{number}"
