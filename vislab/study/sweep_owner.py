"""Who works on a trial: a process, named so that others can tell whether it is still there."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


@cache
def machine() -> str:
    """Name of a machine as long as it stays up, or of a container on it: processes of one name see each other."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    except OSError:  # not Linux
        pass
    return "-".join(parts)


def this_process() -> str:
    """ "machine/process id/start": the last part tells it from a later process with the same id."""
    return f"{machine()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(owner: str) -> bool | None:
    """Whether the process has ended; None if it is one of another machine, which cannot be seen from here."""
    where, _, process = owner.partition("/")
    pid, _, started = process.partition("/")
    if where != machine() or not pid.isdecimal():
        return None
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    """When the process started, in ticks since the machine did; empty if there is none, or only its remains."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5), fields 3 and later
        return "" if state in "ZX" else rest[18]
    except OSError:
        return "" if Path("/proc/self/stat").exists() or not _exists(pid) else "?"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
