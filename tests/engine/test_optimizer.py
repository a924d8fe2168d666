from __future__ import annotations

import math

import pytest
import torch
from engine_fakes import FakeCriterion, FakeModel

from vislab.engine.config import TrainConfig
from vislab.engine.optimizer import build_optimizer, schedule_factor, set_learning_rate
from vislab.errors import UserError


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


def rates_by_name(config: TrainConfig, model: FakeModel) -> dict[str, float | None]:
    """Learning rate of every parameter, None where it is not trained."""
    criterion = FakeCriterion()
    optimizer = build_optimizer(model, criterion, config)
    set_learning_rate(optimizer, config, 0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = [*model.named_parameters(), *((f"criterion.{name}", p) for name, p in criterion.named_parameters())]
    return {name: rates.get(id(parameter)) for name, parameter in named}


def test_multipliers_come_first_and_the_first_that_fits_decides() -> None:
    """The rates of DeVIS' mask-head training on COCO: mask head 2e-4, encoder and decoder 2e-5, backbone 1e-5; the
    released configuration freezes the class heads as well."""
    rates = (("box_head", 10.0), ("class_head", 0.0), ("head.bias", 7.0), ("backbone", 0.5))
    config = TrainConfig(10, 1, learning_rate=2e-5, multipliers=rates)
    model = FakeModel()
    found = rates_by_name(config, model)
    expected = {
        "backbone.weight": 1e-5, "backbone.bias": 1e-5, "query_embed.weight": 2e-5, "frozen": None,
        "sampling_offsets.weight": 2e-6, "sampling_offsets.bias": 2e-6, "class_head.weight": None,
        "class_head.bias": None, "box_head.weight": 2e-4, "box_head.bias": 2e-4, "criterion.head.weight": 2e-5,
        "criterion.head.bias": 1.4e-4,
    }  # fmt: skip
    assert found == {name: rate and pytest.approx(rate) for name, rate in expected.items()}
    assert not model.class_head.weight.requires_grad and model.box_head.weight.requires_grad


def test_one_part_alone_is_trained() -> None:
    config = TrainConfig(10, 1, learning_rate=1.0, multipliers=(("box_head", 1.0), ("", 0.0)))
    model = FakeModel()
    trained = {name for name, rate in rates_by_name(config, model).items() if rate is not None}
    assert trained == {"box_head.weight", "box_head.bias"}
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["box_head.weight", "box_head.bias"]


@pytest.mark.parametrize(
    ("multipliers", "words"),
    [
        ((("mask_hed", 1.0),), ["train.multipliers", "'mask_hed'", "backbone, box_head"]),
        ((("", 0.0),), ["no parameter"]),
    ],
)
def test_multipliers_that_cannot_be_meant(multipliers: tuple[tuple[str, float], ...], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        build_optimizer(FakeModel(), FakeCriterion(), TrainConfig(10, 1, multipliers=multipliers))
    assert all(word in str(error.value) for word in words), str(error.value)


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
