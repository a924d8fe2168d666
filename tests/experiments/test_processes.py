"""--processes-per-run: what it refuses, and what it means for the other options."""

from __future__ import annotations

import pytest
import reproduce_table
import sweep
from processes import check_shares, default_jobs

from vislab.engine.config import TrainConfig
from vislab.errors import UserError
from vislab.metrics.parallel import available_cores


def checked(*more: str) -> reproduce_table.Request:
    arguments = ["taformer", "T3", "--device", "cpu", *more]
    return reproduce_table.checked(reproduce_table.parser().parse_args(arguments))


def test_cores_are_shared_out() -> None:
    assert checked().processes == 1
    request = checked("--processes-per-run", "2")
    assert request.processes == 2 and request.parallel == max(1, available_cores() // 2)
    assert checked("--processes-per-run", "2", "--jobs", "3").parallel == 3
    assert default_jobs("cuda", 4) == 1
    options = sweep.parser().parse_args(["taformer", "--over", "k_inter", "--processes-per-run", "2"])
    assert sweep.checked(options).processes == 2


def test_too_few_processes() -> None:
    with pytest.raises(UserError, match="--processes-per-run is 0, expected 1 or more"):
        checked("--processes-per-run", "0")


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert checked("--device", "cuda", "--processes-per-run", "2").parallel == 1
    with pytest.raises(UserError, match="--processes-per-run is 3, but this machine has 2 GPUs"):
        checked("--device", "cuda", "--processes-per-run", "3")


def test_under_torchrun_all_processes_share_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert checked().processes == 1
    for option in ("--processes-per-run", "--jobs"):
        with pytest.raises(UserError, match=f"{option} is 2, but torchrun's 4 processes share each run"):
            checked(option, "2")
    with pytest.raises(UserError, match="train.batch_size is 2, too few for 4 processes"):
        check_shares([TrainConfig(steps=1, batch_size=2)], 1)


def test_too_many_processes_are_refused_before_anything_is_trained() -> None:
    check_shares([TrainConfig(steps=1, batch_size=4)], 2)
    with pytest.raises(UserError, match="train.batch_size is 1, too few for 2 processes"):
        check_shares([TrainConfig(steps=1, batch_size=4), TrainConfig(steps=1, batch_size=1)], 2)
