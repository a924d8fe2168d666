from __future__ import annotations

import ctypes
import multiprocessing
import warnings
from pathlib import Path

import pytest
import torch
from attention_cases import make_case

from vislab.errors import UserError
from vislab.ops import deform_attn, native, operator
from vislab.ops.doctor import report
from vislab.ops.reference import deform_attn_reference


@pytest.fixture
def fresh(monkeypatch, tmp_path: Path):
    """An empty cache, nothing loaded and nothing warned about; the session's kernel comes back afterwards."""
    monkeypatch.setenv("VISLAB_CACHE", str(tmp_path))
    _forget()
    yield tmp_path
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    native.native_kernel.cache_clear()
    operator._warn_once.cache_clear()


def _needs_compiler() -> None:
    try:
        native.find_compiler()
    except native._NoKernelError as error:
        pytest.skip(str(error))


def test_without_a_compiler_the_definition_runs_and_says_so_once(fresh: Path, monkeypatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    case = make_case(1)
    with pytest.warns(UserWarning, match=r"pure-torch definition.*no C\+\+ compiler found"):
        assert torch.equal(deform_attn(*case), deform_attn_reference(*case))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deform_attn(*case)
    with pytest.raises(UserError, match=r'backend="cpu" cannot run: no C\+\+ compiler found'):
        deform_attn(*case, backend="cpu")
    live = {status.path: status.live for status in report() if status.op == "deform_attn"}
    assert live["reference"] and not live["cpu"]


def test_a_compiler_that_fails_is_reported(fresh: Path, monkeypatch) -> None:
    script = fresh / "broken-c++"
    script.write_text("#!/bin/sh\necho cannot do that >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    kernel = native.native_kernel()
    assert kernel.library is None and "broken-c++ failed: cannot do that" in kernel.reason
    assert list((fresh / "kernels").iterdir()) == [], "no debris in the cache"


def test_without_sources_the_reason_says_so(fresh: Path, monkeypatch) -> None:
    _needs_compiler()
    monkeypatch.setattr(native, "SOURCES", fresh / "nowhere")
    assert "no kernel sources" in native.native_kernel().reason


def test_a_cache_that_cannot_be_written_is_reported(fresh: Path, monkeypatch) -> None:
    _needs_compiler()
    (fresh / "file").write_text("")
    monkeypatch.setenv("VISLAB_CACHE", str(fresh / "file"))
    assert "could not be built or loaded" in native.native_kernel().reason


def test_processes_that_start_at_once_share_one_build(fresh: Path) -> None:
    _needs_compiler()
    processes = multiprocessing.get_context("fork")
    barrier, paths = processes.Barrier(2), processes.SimpleQueue()
    workers = [processes.Process(target=_build_and_load, args=(barrier, paths)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert paths.get() == paths.get()
    assert len(list((fresh / "kernels").iterdir())) == 1


def _build_and_load(barrier, paths) -> None:
    barrier.wait(timeout=60)
    path = native.build(native.find_compiler(), (*native.FLAGS, "-O0"), "baseline")
    assert ctypes.CDLL(str(path)).vislab_deform_attn_instruction_set
    paths.put(str(path))


def test_the_name_of_a_build_depends_on_flags(fresh: Path, monkeypatch) -> None:
    compiler = fresh / "touch-c++"  # "compiles" by creating the file after -o
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do [ -z "$2" ] && exit; shift; done\n: > "$2"\n')
    compiler.chmod(0o755)
    names = {native.build([str(compiler)], flags, "baseline").name for flags in (("-O2",), ("-O3",), ("-O3",))}
    assert len(names) == 2


def test_a_path_that_is_asked_for_says_what_is_missing() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError, match=r'backend="cuda" cannot run: value is on cpu'):
        deform_attn(*make_case(2), backend="cuda")
