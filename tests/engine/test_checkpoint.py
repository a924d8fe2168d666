from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_fakes import FakeCriterion, FakeModel
from safetensors.torch import load_file
from torch import Tensor

from vislab.engine.checkpoint import (
    Elapsed,
    TrainingState,
    delete_checkpoints,
    load_checkpoint,
    save_checkpoint,
    save_tensors,
)
from vislab.engine.config import TrainConfig
from vislab.engine.optimizer import build_optimizer


def state_after(steps: int, seed: int = 0) -> TrainingState:
    """A state whose weights and moments depend on seed and steps."""
    torch.manual_seed(seed)
    model, criterion = FakeModel(), FakeCriterion()
    state = TrainingState(model, criterion, build_optimizer(model, criterion, TrainConfig(10, 1)))
    for _ in range(steps):
        for group in state.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
        state.optimizer.step()
    return state


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def fail(text: str) -> None:
    pytest.fail(text)


def test_a_state_survives_unchanged_and_goes_on_equally(tmp_path: Path) -> None:
    saved, loaded = state_after(3), state_after(1, seed=1)
    elapsed = Elapsed(3, 1.5, 77)
    save_checkpoint(tmp_path, saved, elapsed)
    assert load_checkpoint(tmp_path, loaded, fail) == elapsed
    assert_equal(saved.tensors(), loaded.tensors())
    for state in (saved, loaded):
        for group in state.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.full_like(parameter, 0.25)
        state.optimizer.step()
    assert_equal(saved.tensors(), loaded.tensors())


def test_a_state_before_the_first_step_can_be_saved(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state_after(0), Elapsed())
    assert load_checkpoint(tmp_path, state_after(2, seed=1), fail) == Elapsed()


def test_no_checkpoint_means_step_zero_and_an_untouched_state(tmp_path: Path) -> None:
    state = state_after(1)
    before = state.tensors()
    assert load_checkpoint(tmp_path, state, fail) == Elapsed()
    assert_equal(before, state.tensors())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100000000, 15):
        save_checkpoint(tmp_path, state_after(0), Elapsed(step))
    stems = ("checkpoint-00000015", "checkpoint-100000000")
    expected = [f"{stem}.{kind}" for stem in stems for kind in ("json", "safetensors")]
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    delete_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def flip_a_byte(tensors: Path, record: Path) -> None:
    content = bytearray(tensors.read_bytes())
    content[-3] ^= 1
    tensors.write_bytes(content)


def truncate_tensors(tensors: Path, record: Path) -> None:
    tensors.write_bytes(tensors.read_bytes()[:-10])


def truncate_record(tensors: Path, record: Path) -> None:
    record.write_text(record.read_text()[:-5])


def delete_tensors(tensors: Path, record: Path) -> None:
    tensors.unlink()


def forget_hash(tensors: Path, record: Path) -> None:
    record.write_text(json.dumps({"step": 9}))


@pytest.mark.parametrize("damage", [flip_a_byte, truncate_tensors, truncate_record, delete_tensors, forget_hash])
def test_a_damaged_one_is_reported_and_skipped(tmp_path: Path, damage: Callable[[Path, Path], None]) -> None:
    for step in (4, 8):
        save_checkpoint(tmp_path, state_after(step), Elapsed(step))
    damage(tmp_path / "checkpoint-00000008.safetensors", tmp_path / "checkpoint-00000008.json")
    notices: list[str] = []
    state = state_after(0, seed=1)
    assert load_checkpoint(tmp_path, state, notices.append).step == 4
    assert_equal(state.tensors(), state_after(4).tensors())
    assert len(notices) == 1 and "checkpoint-00000008.json: damaged" in notices[0]
    assert len(list(tmp_path.iterdir())) == 2


def test_tensors_without_their_record_do_not_count(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state_after(4), Elapsed(4))
    save_checkpoint(tmp_path, state_after(8), Elapsed(8))
    (tmp_path / "checkpoint-00000008.json").unlink()
    assert load_checkpoint(tmp_path, state_after(0), fail).step == 4


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    tensors = {name: torch.arange(4.0) for name in "bca"} | {"n": torch.tensor(3)}
    save_tensors(tmp_path / "x", tensors)
    save_tensors(tmp_path / "y", dict(reversed(tensors.items())))
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert_equal(load_file(tmp_path / "x"), tensors)


def test_aliased_and_strided_tensors_are_saved() -> None:
    state = state_after(0)
    state.model.alias = state.model.class_head  # type: ignore[assignment]
    tensors = state.tensors()
    assert torch.equal(tensors["model.alias.weight"], tensors["model.class_head.weight"])
    assert tensors["model.alias.weight"].data_ptr() != tensors["model.class_head.weight"].data_ptr()
