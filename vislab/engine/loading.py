"""Batches made one ahead on a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def prefetched(load: Callable[[Argument], Result], arguments: Iterable[Argument]) -> Generator[Result, None, None]:
    """load(a) for each argument, in order; the next is made on one thread while the caller uses the current.

    What `load` raises is raised here, at its place in the order. Close the generator if it is not used up.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for argument in arguments:
                pending.append(pool.submit(load, argument))
                if len(pending) == 2:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
