"""Work in several processes, with results that do not depend on how many there are."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

from vislab.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Workers:
    """Processes that apply a function to tasks; with one worker, this process does all of it.

    They are started afresh ("spawn"), when first needed, and import nothing but what the function needs. As with any
    use of multiprocessing, a script that asks for more than one must do so under `if __name__ == "__main__":`.
    Ctrl-C ends them without a word and raises KeyboardInterrupt here.
    """

    def __init__(self, number: int) -> None:
        if type(number) is not int or number < 1:
            raise UserError(f"workers is {number!r}, expected an integer >= 1")
        self.number = number
        self._pool: ProcessPoolExecutor | None = None

    def map(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        on_done: Callable[[int], None] = lambda done: None,
    ) -> list[Result]:
        """Results in the order of the tasks; the first task in that order that fails raises its error.

        Args:
            function: picklable, as are tasks and results.
            on_done: called with the number of tasks done so far.

        Raises:
            UserError: a worker process died.
        """
        results: list[Result] = []
        if self.number == 1 or len(tasks) < 2:
            for task in tasks:
                results.append(function(task))
                on_done(len(results))
            return results
        self._pool = self._pool or _new_pool(self.number)
        with _interrupts_held_back():  # the processes start here
            futures = [self._pool.submit(function, task) for task in tasks]
        try:
            for future in futures:
                results.append(future.result())
                on_done(len(results))
        except BrokenProcessPool:
            raise UserError(
                f"workers: one of {self.number} worker processes was killed, perhaps for lack of memory; try fewer"
            ) from None
        return results

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _new_pool(number: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads, such as torch's, may hang
    return ProcessPoolExecutor(number, mp_context=context, initializer=_die_silently)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C waits. Processes started meanwhile inherit that, and so do not print a traceback while they import."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_silently() -> None:
    """In a worker: Ctrl-C ends it at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
