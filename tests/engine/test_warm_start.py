from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vislab.config import digest
from vislab.engine.config import InitialWeights
from vislab.engine.warm_start import warm_start
from vislab.errors import UserError


def model(width: int = 3) -> nn.Module:
    return nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, width)})


def saved(path: Path, tensors: dict[str, Tensor]) -> InitialWeights:
    save_file(tensors, path)
    return InitialWeights.of(path)


def test_what_fits_is_loaded_and_everything_is_accounted_for(tmp_path: Path) -> None:
    source = model(width=5)
    init = saved(tmp_path / "w", dict(source.state_dict()) | {"old.weight": torch.ones(2)})
    target = model(width=3)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    report = warm_start(target, init)
    assert report.loaded == ("a.bias", "a.weight")
    assert report.fresh == ("b.bias", "b.weight")
    assert report.dropped == ("b.bias", "b.weight", "old.weight")
    after = target.state_dict()
    assert torch.equal(after["a.weight"], source["a"].weight)  # type: ignore[index]
    assert torch.equal(after["b.weight"], before["b.weight"])


def test_parts_can_be_left_out(tmp_path: Path) -> None:
    init = saved(tmp_path / "w", dict(model().state_dict()))
    target = model()
    report = warm_start(target, InitialWeights(init.path, init.sha256, without=("b.",)))
    assert report.loaded == ("a.bias", "a.weight") and report.fresh == ("b.bias", "b.weight") and not report.dropped
    assert digest(init) == digest(InitialWeights("elsewhere", init.sha256)) != digest(replace(init, without=("b.",)))


def test_a_model_may_adapt_what_it_is_given(tmp_path: Path) -> None:
    class Adapting(nn.Linear):
        def adapt_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            return state | {"weight": state["weight"][:2]}

    init = saved(tmp_path / "w", {"weight": torch.arange(6.0).view(3, 2), "bias": torch.ones(2)})
    target = Adapting(2, 2)
    assert warm_start(target, init).fresh == ()
    assert target.weight.tolist() == [[0, 1], [2, 3]]


def test_files_that_are_not_what_they_should_be_are_named(tmp_path: Path) -> None:
    init = saved(tmp_path / "w.safetensors", {"x": torch.ones(1)})
    with pytest.raises(UserError, match="w.safetensors: none of its 1 tensors fits"):
        warm_start(model(), init)
    with pytest.raises(UserError, match="w.safetensors: its SHA-256 is .*, expected 0000"):
        warm_start(model(), InitialWeights(init.path, "0000"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="text: not a safetensors file"):
        warm_start(model(), InitialWeights.of(tmp_path / "text"))
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        InitialWeights.of(tmp_path / "nowhere")
