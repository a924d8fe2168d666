"""The run store: files that appear whole, locks that die with their process, the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vislab.errors import UserError
from vislab.records import (
    RunStore,
    atomic_path,
    environment,
    exclusive,
    read_json,
    remove_leftovers,
    source_revision,
    write_json,
)


def test_json_round_trip_and_missing_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": [1, None, 0.1]})
    assert read_json(path) == {"x": [1, None, 0.1]}
    assert [entry.name for entry in path.parent.iterdir()] == ["b.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(ValueError):
        write_json(path, float("nan"))
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == 1 and len(list(tmp_path.iterdir())) == 1


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, 1)
    code = (
        "import os, sys, pathlib\nfrom vislab.records import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    assert read_json(path) == 1 and len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="x.json"):
        read_json(path)


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing.json: no such file"):
        read_json(tmp_path / "nothing.json")


def test_store_lists_runs_and_records(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.runs() == [] and store.trained("k") is None and store.result("k", "e") is None
    write_json(store.train_dir("k") / "config.json", {"type": "RunConfig"})
    (entry,) = store.runs()
    assert (entry.train_key, entry.finished, entry.eval_keys) == ("k", False, [])
    write_json(store.train_dir("k") / "trained.json", {"steps": 3})
    write_json(store.eval_dir("k", "e") / "result.json", {"metrics": {}})
    assert entry.finished and entry.eval_keys == ["e"] and entry.config == {"type": "RunConfig"}
    assert store.trained("k") == {"steps": 3} and store.result("k", "e") == {"metrics": {}}


HOLDER = (
    "import sys, time, pathlib\nfrom vislab.records import exclusive\n"
    "with exclusive(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)\n"
)


def test_a_lock_is_waited_for_and_freed_by_a_kill(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    waited: list[Path] = []

    def on_wait(lock: Path) -> None:
        waited.append(lock)
        os.kill(holder.pid, signal.SIGKILL)

    with exclusive(tmp_path, on_wait):
        assert waited == [tmp_path / "lock"]
    holder.wait()


def test_a_free_lock_is_not_waited_for(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "new", lambda lock: pytest.fail("waited")):
            pass


def test_environment_names_versions_and_extras() -> None:
    found = environment(threads=3)
    assert found["python"] == ".".join(map(str, sys.version_info[:3])) and found["threads"] == 3
    assert found["packages"]["numpy"] and found["processor"] and found["cores"] >= 1


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, env=clean)


def test_source_revision_of_a_checkout(tmp_path: Path) -> None:
    assert source_revision(tmp_path) is None
    git(tmp_path, "init")
    assert source_revision(tmp_path) is None  # no commit
    (tmp_path / "records.py").write_text("1")
    git(tmp_path, "add", "records.py")
    git(tmp_path, "commit", "-m", "a")
    clean = source_revision(tmp_path)
    assert clean is not None and len(clean["sha"]) == 40 and clean["dirty"] is False
    (tmp_path / "records.py").write_text("2")
    dirty = source_revision(tmp_path)
    assert dirty is not None and dirty["dirty"] is True


def test_no_revision_inside_a_checkout_of_something_else(tmp_path: Path) -> None:
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "a")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "records.py").write_text("1")
    assert source_revision(tmp_path / "site-packages") is None


def test_no_revision_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_revision() is None
