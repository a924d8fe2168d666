"""A PostgreSQL server of our own, in a temporary folder, reached by a Unix socket. None of the machine's is touched."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty database; skips the test, and says why, where there is no server or driver."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (initdb is neither on PATH nor in /usr/lib/postgresql/*/bin)")
    if not any(importlib.util.find_spec(name) for name in ("psycopg", "psycopg2")):
        pytest.skip("the driver of PostgreSQL is not installed (pip install -e '.[sweeps]')")
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="vislab-postgres-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    try:
        _run(user, programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync")
        with _server(user, programs, folder):
            yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(user: str | None, programs: Path, folder: Path) -> Iterator[None]:
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"]
    command = [programs / "postgres", "-D", folder / "data", "-k", folder, *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd="/")
    try:
        for _ in range(300):
            if "ready to accept connections" in (folder / "log").read_text():
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown
        process.wait(30)


def _programs() -> Path | None:
    """Where initdb and postgres are, the latest version first."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


def _run(user: str | None, *command: str | Path) -> None:
    subprocess.run(command, user=user, cwd="/", check=True, capture_output=True)
