from __future__ import annotations

import torch
from engine_fakes import FakeCriterion
from torch import Tensor, nn

from vislab.engine.diagnose import explain_non_finite
from vislab.errors import UserError


class Root(torch.autograd.Function):
    """Identity whose gradient is infinite."""

    @staticmethod
    def forward(context, value: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return value.clone()

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return gradient * float("inf")


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
        self.bad_gradient = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        return self.third(Root.apply(x) if self.bad_gradient else x)


def explain(model: Chain, x: Tensor) -> str:
    criterion = FakeCriterion()

    def replay() -> dict[str, Tensor]:
        model.zero_grad()
        loss = model(x).sum()
        loss.backward()
        return {"class": loss.detach(), "box": torch.tensor(1.0)}

    error = explain_non_finite(model, criterion, replay(), 7, ["a", "b"], replay)
    assert isinstance(error, UserError)
    hooks = [h for m in [*model.modules(), *criterion.modules()] for h in m._forward_hooks]
    assert not hooks
    return str(error)


def test_a_bad_parameter_is_named() -> None:
    model = Chain()
    model.second.bias.data[0] = float("nan")
    text = explain(model, torch.ones(1, 2))
    assert text == "training stopped at step 7: loss class is not finite; first at parameter second.bias; videos: a, b"


def test_the_first_bad_activation_is_named() -> None:
    model = Chain()
    nn.init.constant_(model.first.weight, 3e38)
    nn.init.ones_(model.second.weight)
    assert "loss class is not finite; first at the output of layer first (Linear)" in explain(model, torch.ones(1, 2))
    nn.init.constant_(model.first.weight, 1e38)
    assert "the output of layer second (Linear)" in explain(model, torch.ones(1, 2))


def test_the_first_bad_gradient_in_backward_order_is_named() -> None:
    model = Chain()
    model.bad_gradient = True
    text = explain(model, torch.ones(1, 2))
    assert "losses are finite but the gradient is not" in text and "the gradient of second." in text


def test_a_loss_that_goes_wrong_by_itself() -> None:
    model, bad = nn.Linear(1, 1), {"dice": torch.tensor(float("inf")), "box": torch.tensor(1.0)}
    error = explain_non_finite(model, FakeCriterion(), bad, 0, [], lambda: None)
    assert "loss dice is not finite" in str(error) and "videos: unknown" in str(error)
    assert "no layer stands out" in str(error)
