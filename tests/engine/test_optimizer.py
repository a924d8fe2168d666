from __future__ import annotations

import math

import pytest
import torch
from engine_fakes import FakeCriterion, FakeModel

from vislab.engine.config import TrainConfig
from vislab.engine.optimizer import build_optimizer, schedule_factor, set_learning_rate


def test_every_trainable_parameter_is_in_exactly_one_group_at_its_rate() -> None:
    model, criterion = FakeModel(), FakeCriterion()
    config = TrainConfig(10, 1, learning_rate=1.0, backbone_multiplier=0.1, slow_multiplier=0.5)
    optimizer = build_optimizer(model, criterion, config)
    assert set_learning_rate(optimizer, config, 0) == 1.0
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rates)
    expected = {"backbone": 0.1, "sampling_offsets": 0.5}
    for name, parameter in model.named_parameters():
        assert rates.pop(id(parameter), None) == (None if name == "frozen" else expected.get(name.split(".")[0], 1.0))
    assert sorted(rates) == sorted(id(parameter) for parameter in criterion.parameters())
    assert set(rates.values()) == {1.0}


def test_a_parameter_under_two_names_is_stepped_once() -> None:
    model = FakeModel()
    model.alias = model.class_head
    optimizer = build_optimizer(model, FakeCriterion(), TrainConfig(1, 1))
    members = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(members) == len(set(members))


def test_step_schedule_equals_torch_multi_step() -> None:
    config = TrainConfig(60, 1, milestones=(3 / 6, 5 / 6), decay=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 50], gamma=0.1)
    for step in range(60):
        assert schedule_factor(config, step) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_cosine_schedule_equals_torch_cosine() -> None:
    config = TrainConfig(40, 1, schedule="cosine")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    for step in range(40):
        assert schedule_factor(config, step) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_warm_up_rises_linearly_to_the_full_rate(schedule: str) -> None:
    config = TrainConfig(100, 1, schedule=schedule, warmup_steps=9)  # type: ignore[arg-type]
    factors = [schedule_factor(config, step) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(factors) == factors[9] == 1.0 and all(math.isfinite(f) and f > 0 for f in factors)


def test_a_schedule_that_is_all_warm_up() -> None:
    config = TrainConfig(5, 1, schedule="cosine", warmup_steps=5)
    assert [schedule_factor(config, step) for step in range(5)] == pytest.approx([i / 6 for i in range(1, 6)])
