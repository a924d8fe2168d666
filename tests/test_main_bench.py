"""`vislab bench msda`, as a user calls it; the benchmark itself is tested in ops/test_bench.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vislab import __main__ as command


def test_help_is_that_of_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["bench", "msda", "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0 and "usage: vislab bench msda" in text
    for part in ("--cases", "encoder-scattered", "--quick", "examples:", "of roofline"):
        assert part in text


@pytest.mark.parametrize("arguments", [["--cases", "none"], ["--rounds", "0"], ["--dtypes", "int8"], ["surplus"]])
def test_wrong_options_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["bench", "msda", *arguments])
    assert exit_.value.code == 2 and "usage: vislab bench msda" in capsys.readouterr().err


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command.main(["bench", "msda", "--device", "cuda"]) == 2
    assert capsys.readouterr().err.startswith("error: --device cuda")


def test_without_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "BENCHMARK", tmp_path / "bench")
    monkeypatch.delitem(sys.modules, "deform_attn_bench", raising=False)
    assert command.main(["bench", "msda", "--quick"]) == 2
    error = capsys.readouterr().err
    assert "comes with a checkout" in error and error.count("\n") == 1


def test_the_folder_runs_too() -> None:
    done = subprocess.run([sys.executable, command.BENCHMARK, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("usage: vislab bench msda")
