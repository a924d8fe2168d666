"""Storages by URL: those that work, and one quick sentence for those that do not."""

from __future__ import annotations

import importlib.util
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from optuna.storages import BaseStorage, run_grpc_proxy_server
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from postgres_server import postgres_server
from sqlalchemy.exc import OperationalError

from vislab.errors import UserError
from vislab.study.sweep_storage import open_storage, sqlite_url, storage_errors, without_password

needs_grpc = pytest.mark.skipif(importlib.util.find_spec("grpc") is None, reason="grpcio is not installed")


def works(storage: BaseStorage) -> None:
    """A trial can be made, given back, and taken again by one of many only."""
    study = storage.create_new_study([StudyDirection.MAXIMIZE], "study")
    trial = storage.create_new_trial(study, create_trial(state=TrialState.RUNNING, user_attrs={"worker": "me"}))
    assert not storage.set_trial_state_values(trial, TrialState.RUNNING)
    assert storage.set_trial_state_values(trial, TrialState.WAITING)
    assert storage.set_trial_state_values(trial, TrialState.RUNNING)
    assert storage.set_trial_state_values(trial, TrialState.COMPLETE, [1.0])
    (found,) = storage.get_all_trials(study)
    assert (found.number, found.state, found.values) == (0, TrialState.COMPLETE, [1.0])
    assert found.user_attrs == {"worker": "me"}


def test_sqlite(tmp_path: Path) -> None:
    works(open_storage(f"sqlite:///{tmp_path}/a.db"))
    assert open_storage(f"sqlite:///{tmp_path}/a.db").get_study_id_from_name("study") == 1


def test_journal(tmp_path: Path) -> None:
    works(open_storage(f"journal:///{tmp_path}/a.log"))


@needs_grpc
def test_grpc(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = open_storage(f"sqlite:///{tmp_path}/a.db")
    threading.Thread(target=run_grpc_proxy_server, args=(served,), kwargs={"port": port}, daemon=True).start()
    works(open_storage(f"grpc://localhost:{port}"))


def test_postgresql() -> None:
    with postgres_server() as url:
        works(open_storage(url))


def test_processes_that_start_together_make_the_tables_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with ThreadPoolExecutor(4) as pool:
        storages = list(pool.map(open_storage, [url] * 4))
    works(storages[0])


def test_one_of_many_takes_a_waiting_trial(tmp_path: Path) -> None:
    """Each through a storage of its own, as processes have."""
    url = f"sqlite:///{tmp_path}/a.db"
    first = open_storage(url)
    study = first.create_new_study([StudyDirection.MAXIMIZE], "study")
    trials = [first.create_new_trial(study, create_trial(state=TrialState.WAITING)) for _ in range(6)]

    def take(storage: BaseStorage) -> list[bool]:
        return [storage.set_trial_state_values(trial, TrialState.RUNNING) for trial in trials]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, [open_storage(url) for _ in range(4)]))
    assert [sum(each) for each in zip(*taken, strict=True)] == [1] * 6


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "is no URL of a storage, expected sqlite:///FILE"),
        ("sqlite:////no/such/folder/a.db", "there is no folder /no/such/folder"),
        ("journal:////no/such/folder/a.log", "there is no folder"),
        ("sqlite:///", "names no file"),
        ("grpc://host", "expected grpc://HOST:PORT"),
        pytest.param("grpc://127.0.0.1:1", "cannot be used", marks=needs_grpc),
    ],
)
def test_unusable_storages_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        open_storage(url)
    assert sentence in str(error.value) and "\n" not in str(error.value) and str(error.value).startswith("--storage ")


def test_unreachable_server_and_no_password_in_the_message() -> None:
    """Where the driver is missing, the message says so instead."""
    with pytest.raises(UserError) as error:
        open_storage("postgresql://me:secret@127.0.0.1:1/sweeps")
    assert "secret" not in str(error.value) and "--storage postgresql://me:***@127.0.0.1:1/sweeps" in str(error.value)
    assert "refused" in str(error.value) or "needs the package psycopg" in str(error.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("not a database, but long enough to be read as one" * 10)
    with pytest.raises(UserError, match=r"a\.db: cannot be used \(file is not a database\)"):
        open_storage(f"sqlite:///{tmp_path}/a.db")


def test_a_storage_that_is_lost_in_the_middle() -> None:
    with pytest.raises(UserError, match=r"--storage x: cannot be used \(gone\)"), storage_errors("x"):
        raise OperationalError("select", {}, Exception("gone"))
    with pytest.raises(KeyError), storage_errors("x"):
        raise KeyError("ours")


def test_urls() -> None:
    assert without_password("postgresql://a:b@host/c") == "postgresql://a:***@host/c"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"
    assert sqlite_url(Path("runs/a.db")) == "sqlite:///runs/a.db"
    assert sqlite_url(Path("/somewhere/a.db")) == "sqlite:////somewhere/a.db"
