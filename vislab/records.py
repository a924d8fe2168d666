"""The run store: one folder per training run, files that appear whole or not at all, and what machine made them.

    root/<train_key>/config.json env.json metrics.jsonl checkpoint-*.{safetensors,json} weights.safetensors trained.json
    root/<train_key>/eval/<eval_key>/config.json predictions.json matches.npz result.json

`trained.json` and `result.json` are written last: their presence means that everything beside them is complete.
Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vislab.errors import UserError

PACKAGES = ("vislab", "torch", "numpy", "scipy", "pycocotools", "transformers", "safetensors")


@dataclass(frozen=True)
class RunStore:
    """Folders and finished records of all runs under `root`."""

    root: Path

    def train_dir(self, train_key: str) -> Path:
        return Path(self.root) / train_key

    def eval_dir(self, train_key: str, eval_key: str) -> Path:
        return self.train_dir(train_key) / "eval" / eval_key

    def trained(self, train_key: str) -> dict[str, Any] | None:
        """The record of a finished training run, or None."""
        return _read_if_there(self.train_dir(train_key) / "trained.json")

    def result(self, train_key: str, eval_key: str) -> dict[str, Any] | None:
        """The record of a finished evaluation, or None."""
        return _read_if_there(self.eval_dir(train_key, eval_key) / "result.json")

    def runs(self) -> list[RunEntry]:
        """All runs of the store, sorted by key; unfinished ones too."""
        folders = sorted(path.parent for path in Path(self.root).glob("*/config.json"))
        return [RunEntry(self, folder.name) for folder in folders]


@dataclass(frozen=True)
class RunEntry:
    """One training run as it lies in the store."""

    store: RunStore
    train_key: str

    @property
    def folder(self) -> Path:
        return self.store.train_dir(self.train_key)

    @property
    def finished(self) -> bool:
        return (self.folder / "trained.json").exists()

    @property
    def config(self) -> dict[str, Any]:
        return read_json(self.folder / "config.json")

    @property
    def eval_keys(self) -> list[str]:
        """Keys of the finished evaluations, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("eval/*/result.json"))


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends well it is flushed to disk and renamed to `path`.

    Whoever looks sees the old file or the new one, also after a kill or a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # the user's own choice, whatever the writer in the block makes of it
        yield temporary
        temporary.chmod(mode)
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; when the block ends well it is renamed to `path`, else it is deleted.

    A folder that is there already must be empty, or renaming raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush_to_disk(file)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically. Raises ValueError for NaN and infinity: undefined numbers are None."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises UserError naming the file where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of killed writers. Call it only while holding the folder's lock."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(folder: Path, on_wait: Callable[[Path], None] | None = None) -> Iterator[None]:
    """Hold the folder's lock file, so that no two processes work on one run; released by the system on any death.

    on_wait is called once with the lock's path if another process holds it; then this one waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait(folder / "lock")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def environment(**more: Any) -> dict[str, Any]:
    """Versions, processor and source revision of this process; `more` (threads, device ...) is added as it is."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": source_revision(),
        "command": sys.argv,
        **more,
    }


def source_revision(folder: Path | None = None) -> dict[str, Any] | None:
    """{"sha", "dirty"} of the git checkout that this package lies in; None if it lies in none or git is absent."""
    folder = folder or Path(__file__).parent
    tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)  # an install inside some other checkout
    sha = _git(folder, "rev-parse", "HEAD")
    if tracked is None or sha is None:
        return None
    return {"sha": sha, "dirty": _git(folder, "status", "--porcelain", "--untracked-files=no") != ""}


def _read_if_there(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _git(folder: Path, *arguments: str) -> str | None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # set inside hooks
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=clean)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name as Linux gives it, else as Python does."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
