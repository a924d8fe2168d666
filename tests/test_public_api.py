"""`import vislab`: instant, and the four names that the design promises."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import vislab


def test_import_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, vislab; sys.exit(bool({'torch', 'pandas', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_are_there() -> None:
    assert set(vislab.__all__) <= set(dir(vislab))
    for name in ("build_model", "evaluate", "load_official"):
        assert callable(getattr(vislab, name))
    assert callable(vislab.ops.deform_attn)


def test_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build'.*build_model, evaluate, load_official, ops"):
        _ = vislab.build


def test_build_model_on_the_meta_device_takes_changes() -> None:
    model = vislab.build_model("taformer", scale="tiny", device="meta", changes={"encoder.temporal.num_points": 2})
    assert isinstance(model, torch.nn.Module)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.config.encoder.temporal.num_points == 2


def test_evaluate_takes_loaded_json() -> None:
    truth = {"videos": [], "categories": [{"id": 1, "name": "x"}], "annotations": []}
    assert list(vislab.evaluate(truth, []).columns) == ["metric", "scope", "value", "ci_low", "ci_high", "n"]
