"""Where a sweep keeps its trials: optuna's storages, by URL.

    sqlite:///runs/sweeps.db          one machine (the default); three slashes: relative, four: from the root
    postgresql://USER@HOST/DATABASE   many machines
    grpc://HOST:PORT                  many machines, through optuna's proxy (optuna.storages.run_grpc_proxy_server)
    journal:///shared/sweeps.log      many machines with a shared folder, no server

Whatever is wrong with a storage is said at once, in one sentence: nothing here waits longer than a few seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from vislab.errors import UserError

SECONDS_TO_CONNECT = 5
_SECONDS_FOR_LOCKS = 60  # of SQLite, where one process writes at a time
_ATTEMPTS = 5  # at making tables, which processes that start together all try
_DRIVERS = ("psycopg", "psycopg2")  # of PostgreSQL

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str) -> BaseStorage:
    """Raises UserError where it is malformed, cannot be reached, or needs a package that is not installed."""
    kind = url.partition("://")[0]
    with storage_errors(url):
        if kind == "grpc":
            return _grpc(url)
        if kind == "journal":
            return JournalStorage(JournalFileBackend(str(_file_of(url))))
        return _relational(url)


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Whatever goes wrong with the storage inside the block becomes one sentence for the user."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, ConnectionError, OSError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        reason = " ".join(str(getattr(cause, "orig", None) or cause).split()) or type(cause).__name__
        raise UserError(f"--storage {without_password(url)}: cannot be used ({reason[:200]})") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "grpc":
            raise
        code = getattr(error, "code", lambda: None)()
        reason = getattr(code, "name", type(error).__name__).lower().replace("_", " ")
        raise UserError(f"--storage {without_password(url)}: the gRPC proxy failed ({reason})") from error


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def sqlite_url(path: Path) -> str:
    """Of a file; relative to the working folder where it lies below it."""
    with contextlib.suppress(ValueError):
        path = path.resolve().relative_to(Path.cwd())
    return f"sqlite:///{path}"


def journal_url(path: Path) -> str:
    return f"journal:///{path.resolve()}"


def _relational(url: str) -> BaseStorage:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(
            f"--storage {url!r} is no URL of a storage, expected sqlite:///FILE, postgresql://USER@HOST/DATABASE, "
            "grpc://HOST:PORT or journal:///FILE"
        ) from None
    backend, _, driver = parsed.drivername.partition("+")
    sqlite = backend == "sqlite"
    if sqlite:
        _file_of(url)
    elif backend == "postgresql" and not driver:
        parsed = parsed.set(drivername=f"postgresql+{_driver(url)}")
    options: dict[str, Any] = {"connect_args": {"timeout": _SECONDS_FOR_LOCKS}} if sqlite else _server_options(backend)
    storage = _made(parsed.render_as_string(hide_password=False), options)
    if sqlite:
        _one_at_a_time(storage)
    return get_storage(storage)  # with the cache that optuna itself puts around it


def _made(url: str, options: dict[str, Any]) -> RDBStorage:
    """With its tables, which another process may be making at the same moment."""
    for attempt in range(_ATTEMPTS):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except ImportError as error:
            raise UserError(f"--storage {without_password(url)}: its driver is not installed ({error})") from error
        except RuntimeError as error:  # of another version of optuna
            raise UserError(f"--storage {without_password(url)}: {' '.join(str(error).split())}") from error
        except (StorageInternalError, SQLAlchemyError) as error:
            if "exist" not in str(error) and "unique" not in str(error).lower() or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.2 + random.random())
    raise AssertionError("the last attempt returns or raises")


def _one_at_a_time(storage: RDBStorage) -> None:
    """SQLite's default begins a transaction at its first write: two processes that both read a trial as waiting would
    both take it. Beginning with the lock makes each reading and writing one step
    (docs.sqlalchemy.org, dialects/sqlite, "Serializable isolation")."""

    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(storage.engine, "connect", leave_transactions_to_us)
    event.listen(storage.engine, "begin", begin)
    storage.engine.dispose()  # connections from before


def _server_options(backend: str) -> dict[str, Any]:
    """A server may restart in the middle of a sweep, so connections are tried before they are used."""
    timeout = {"connect_timeout": SECONDS_TO_CONNECT} if backend in ("postgresql", "mysql") else {}
    return {"pool_pre_ping": True, "connect_args": timeout}


def _driver(url: str) -> str:
    for module in _DRIVERS:
        if importlib.util.find_spec(module) is not None:
            return module
    packages = " or ".join(_DRIVERS)
    raise UserError(f"--storage {without_password(url)}: needs the package {packages} (pip install -e '.[sweeps]')")


def _grpc(url: str) -> GrpcStorageProxy:
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise UserError(f"--storage {url}: expected grpc://HOST:PORT")
    if importlib.util.find_spec("grpc") is None:
        raise UserError(f"--storage {url}: needs the package grpcio (pip install -e '.[sweeps]')")
    storage = GrpcStorageProxy(host=parts.hostname, port=parts.port)
    storage.wait_server_ready(timeout=SECONDS_TO_CONNECT)
    return storage


def _file_of(url: str) -> Path:
    """The file of a URL; its folder must be there."""
    path = Path(url.partition("://")[2].removeprefix("/"))
    if not path.name:
        raise UserError(f"--storage {url}: names no file")
    if not path.parent.is_dir():
        raise UserError(f"--storage {url}: there is no folder {path.parent}")
    return path
