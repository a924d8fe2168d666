from __future__ import annotations

import sys

import pytest
import torch

from vislab.engine.device import peak_memory_bytes, reset_peak_memory, resolve_device, torch_threads
from vislab.errors import UserError

CPU = torch.device("cpu")


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert resolve_device("auto").type == kind
        assert resolve_device("cpu").type == "cpu"


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device is 'cuda', but .*use cpu or auto"):
        resolve_device("cuda")


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(UserError, match="'gpu', expected one of auto, cpu, cuda"):
        resolve_device("gpu")


def test_threads_are_set_and_restored() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with torch_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux only")
def test_peak_memory_counts_from_the_reset() -> None:
    size = 200 * 2**20
    reset_peak_memory(CPU)
    before = peak_memory_bytes(CPU)
    block = torch.ones(size, dtype=torch.uint8)
    assert peak_memory_bytes(CPU) - before > 0.8 * size
    del block
    reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) - before < 0.5 * size
