"""Told to stop in the middle of a training: a checkpoint first.

SIGTERM is what systems and schedulers send some seconds before they kill, SIGUSR2 what submitit has Slurm send when a
job's time is nearly up. Outside of a training they do what they always do.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Stopped(Exception):
    """Raised out of a training that was told to stop, its checkpoint written; seen only where the signal does not end
    the process."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Inside the block a signal to stop is only noted; at its end it takes the effect that it had before the block.

    Yields the function that tells whether there was one. Signals reach main threads: in others there is none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    noted: list[int] = []
    before = {each: signal.signal(each, lambda number, _: noted.append(number)) for each in SIGNALS}
    try:
        yield lambda: bool(noted)
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)  # None: not Python's
        if noted:
            signal.raise_signal(noted[0])
