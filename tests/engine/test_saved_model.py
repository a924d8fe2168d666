"""Weights on disk that say what they are, and those that must be told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_runs import small_run

from vislab.config import to_dict
from vislab.data import Category, DatasetConfig
from vislab.engine.checkpoint import save_tensors
from vislab.engine.config import RunConfig
from vislab.engine.saved_model import load_saved_model
from vislab.errors import UserError
from vislab.models.presets import PRESETS, build_model
from vislab.records import write_json

CPU = torch.device("cpu")


def stored(folder: Path, run: RunConfig, kind: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A finished run as it lies in the store, with fresh weights, which are returned."""
    torch.manual_seed(0)
    weights = {name: value.to(kind) for name, value in run.model.build().state_dict().items()}
    save_tensors(folder / "weights.safetensors", weights)
    write_json(folder / "config.json", to_dict(run))
    return weights


def test_a_run_says_itself_what_it_is(tmp_path: Path) -> None:
    run = small_run()
    weights = stored(tmp_path / "run", run)
    for path in (tmp_path / "run", tmp_path / "run" / "weights.safetensors"):
        saved = load_saved_model(path, CPU)
        assert saved.evaluation == run.evaluation and not saved.model.training
        assert len(saved.categories) == 3 and saved.categories[0].name == "plain disc"
        for name, value in saved.model.state_dict().items():
            torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_a_checkpoint_of_a_training_will_do(tmp_path: Path) -> None:
    weights = stored(tmp_path, small_run())
    state = {f"model.{name}": value for name, value in weights.items()}
    save_tensors(tmp_path / "checkpoint-00000002.safetensors", state | {"optimizer.0.step": torch.ones(())})
    (tmp_path / "weights.safetensors").unlink()
    saved = load_saved_model(tmp_path / "checkpoint-00000002.safetensors", CPU)
    assert saved.model.state_dict().keys() == weights.keys()
    with pytest.raises(UserError, match="its training is not finished, expected weights.safetensors in it"):
        load_saved_model(tmp_path, CPU)


def test_a_run_from_before_fields_were_added_is_read(tmp_path: Path) -> None:
    stored(tmp_path, small_run())
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("stream", "clips", "augmentation"):
        del config["evaluation"][name]
    write_json(tmp_path / "config.json", config)
    assert load_saved_model(tmp_path, CPU).evaluation == small_run().evaluation


def test_categories_are_numbers_where_the_data_is_gone(tmp_path: Path) -> None:
    run, moved = small_run(), DatasetConfig(str(tmp_path / "gone"))
    stored(tmp_path, replace(run, data=moved, evaluation=replace(run.evaluation, data=moved)))
    assert load_saved_model(tmp_path, CPU).categories[1:] == (Category(2, "category 2"), Category(3, "category 3"))
    named = (Category(4, "cat"), Category(5, "dog"), Category(6, "cow"), Category(7, "one too many"))
    assert load_saved_model(tmp_path, CPU, categories=named).categories == named[:3]


@pytest.mark.parametrize("name", ["taformer", "tevit", "mask2former-vis", "refinevis", "idol"])
def test_bare_weights_with_other_classes(tmp_path: Path, name: str) -> None:
    """How many is seen from them; a softmax has one logit more."""
    model = build_model(name, "smoke", changes=None) if name in ("refinevis", "idol") else None
    model = model or build_model(name, "smoke", num_classes=5)
    count = PRESETS[name]("smoke").num_classes if name in ("refinevis", "idol") else 5
    save_tensors(tmp_path / "bare.safetensors", {n: v.half().contiguous() for n, v in model.state_dict().items()})
    saved = load_saved_model(tmp_path / "bare.safetensors", CPU, name=name, scale="smoke")
    assert len(saved.categories) == count and saved.categories[0] == (1, "category 1")
    assert (saved.evaluation.short_side, saved.evaluation.max_side) == (96, 160)
    assert (saved.evaluation.stream is not None) == (name in ("refinevis", "idol"))
    assert all(value.dtype != torch.float16 for value in saved.model.state_dict().values())


def test_a_release_goes_through_its_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What converters do is tested with them; here, which of them is asked, and for which model."""
    asked = []

    def load(model: torch.nn.Module, path: Path, source: str) -> torch.nn.Module:
        asked.append((type(model).__name__, path.name, source))
        return model

    monkeypatch.setattr("vislab.engine.saved_model.load_official", load)
    load_saved_model(tmp_path / "a.pth", CPU, name="tevit-r50", scale="smoke")
    load_saved_model(tmp_path / "b.safetensors", CPU, name="seqformer", scale="smoke", release="seqformer")
    saved = load_saved_model(tmp_path / "c.pkl", CPU, name="mask2former-vis", scale="smoke", num_classes=7)
    assert asked == [
        ("TeViT", "a.pth", "tevit"), ("SeqFormer", "b.safetensors", "seqformer"),
        ("Mask2FormerVIS", "c.pkl", "mask2former-vis"),
    ]  # fmt: skip
    assert len(saved.categories) == 7
    with pytest.raises(UserError, match="there is no release of 'taformer'; expected .safetensors, or --release with"):
        load_saved_model(tmp_path / "a.pth", CPU, name="taformer", scale="smoke")


def test_mistakes_are_told_in_one_sentence(tmp_path: Path) -> None:
    weights = stored(tmp_path / "run", small_run())
    bare = tmp_path / "bare.safetensors"
    save_tensors(bare, {"a": torch.ones(2)})
    text = tmp_path / "text.safetensors"
    text.write_text("no tensors")
    for path, options, message in (
        (tmp_path / "none", {}, "none: there is no such file or folder"),
        (tmp_path / "none", {"name": "devis"}, "there is no release|does not exist"),
        (bare, {}, "no config.json beside it says what model it is; give --model"),
        (bare, {"name": "taformer", "scale": "smoke"}, "not the weights of this model and scale: Error"),
        (bare, {"name": "magic"}, "unknown model 'magic': expected one of seqformer"),
        (bare, {"name": "maskdino"}, "'maskdino' is a model of images, expected one of videos"),
        (bare, {"name": "deformable-detr", "scale": "smoke"}, "predicts boxes only"),
        (text, {"name": "taformer", "scale": "smoke"}, "not a safetensors file"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            load_saved_model(path, CPU, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    save_tensors(tmp_path / "run" / "weights.safetensors", dict(list(weights.items())[1:]))
    with pytest.raises(UserError, match="weights.safetensors: not the weights of this model"):
        load_saved_model(tmp_path / "run", CPU)
    (tmp_path / "run" / "config.json").write_text('{"type": "EvalConfig"}')
    with pytest.raises(UserError, match="config.json: not the configuration of a run"):
        load_saved_model(tmp_path / "run", CPU)
