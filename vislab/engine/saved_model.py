"""Weights on disk to a model that can be used: those of a run, which say what they are, and those of anybody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vislab.config import from_dict
from vislab.data import Category, DatasetConfig, load_dataset
from vislab.engine.config import EvalConfig, RunConfig
from vislab.errors import UserError
from vislab.models.official import SOURCES, load_official
from vislab.models.presets import PRESETS, ModelConfig, with_num_classes
from vislab.models.refinevis import RefineVISConfig
from vislab.models.scale import Scale
from vislab.records import read_json
from vislab.stitching.video_stream import StreamConfig

__all__ = ["SavedModel", "load_saved_model", "model_of_weights"]

SIDES = {"paper": (360, 640), "small": (192, 320), "tiny": (96, 160), "smoke": (96, 160)}  # shorter, longer at most
WEIGHTS = "weights.safetensors"
TRAINING = ("model.", "criterion.", "optimizer.")  # parts of a checkpoint that training goes on from


@dataclass(frozen=True)
class SavedModel:
    """model: in evaluation mode. categories: what its logits stand for; those beyond are not read.

    evaluation: how it was evaluated, or is usually.
    """

    model: nn.Module
    categories: tuple[Category, ...]
    evaluation: EvalConfig


def load_saved_model(
    path: Path,
    device: torch.device,
    *,
    name: str | None = None,
    scale: Scale = "paper",
    num_classes: int | None = None,
    release: str | None = None,
    categories: tuple[Category, ...] = (),
) -> SavedModel:
    """The model of a checkpoint.

    Args:
        path: the folder of a run or a .safetensors file in it, which config.json beside it explains; or, with `name`,
            a file of weights alone: our own as .safetensors, or a release.
        name, scale: as `build_model` has them, for weights that nothing explains.
        num_classes: of such a model; None: as many as our own weights have, or as the model has at this scale.
        release: which release (a source of `load_official`) the file is. None: that of the model's name, unless the
            file is a .safetensors.
        categories: what the logits stand for. Empty: those of the data that a run was trained on, or numbers.

    Raises:
        UserError: nothing says what model it is, or the weights do not fit it.
    """
    if name is None:
        return _of_run(path, categories, device)
    config = _named(name, scale)
    if path.is_dir():
        raise UserError(f"--checkpoint {path}: is a folder, expected a file of weights, as --model is given")
    if release is not None or path.suffix != ".safetensors":
        config = with_num_classes(config, num_classes) if num_classes else config
        model = load_official(config.build(), path, release or _usual_release(name, path))
    else:
        config, model = model_of_weights(config, path, num_classes)
    known = categories or numbered_categories(config.num_classes)
    return SavedModel(model.to(device).eval(), known[: config.num_classes], _usual_evaluation(config, scale))


def model_of_weights(config: ModelConfig, path: Path, num_classes: int | None = None) -> tuple[ModelConfig, nn.Module]:
    """A model with the weights of a .safetensors file, and its configuration, with as many classes as they have.

    num_classes: how many that are, if it is known. Raises UserError for a file that cannot be read or does not fit.
    """
    state = _read(path)
    config = with_num_classes(config, num_classes) if num_classes else _with_classes_of(config, state)
    return config, _filled(config, state, path)


def numbered_categories(count: int) -> tuple[Category, ...]:
    """Where nothing says what the classes of a model are; ids count from 1, as those of YouTube-VIS."""
    return tuple(Category(number, f"category {number}") for number in range(1, count + 1))


def _of_run(path: Path, categories: tuple[Category, ...], device: torch.device) -> SavedModel:
    folder = path if path.is_dir() else path.parent
    weights = path / WEIGHTS if path.is_dir() else path
    if not path.exists():
        raise UserError(f"--checkpoint {path}: there is no such file or folder")
    if not (folder / "config.json").is_file():
        raise UserError(f"--checkpoint {path}: no config.json beside it says what model it is; give --model, --scale")
    try:
        run: RunConfig = from_dict(RunConfig, read_json(folder / "config.json"))
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: not the configuration of a run ({error})") from None
    if not weights.is_file():
        raise UserError(f"--checkpoint {path}: its training is not finished, expected {WEIGHTS} in it")
    model = _filled(run.model, _read(weights), weights).to(device).eval()
    known = categories or _trained_on(run) or numbered_categories(run.model.num_classes)
    return SavedModel(model, known[: run.model.num_classes], run.evaluation)


def _trained_on(run: RunConfig) -> tuple[Category, ...]:
    """Categories of the data; none if these are no longer where they were."""
    try:
        return load_dataset(run.evaluation.data, run.evaluation.split).categories
    except UserError:
        return ()


def _named(name: str, scale: Scale) -> ModelConfig:
    if name not in PRESETS:
        raise UserError(f"unknown model {name!r}: expected one of {', '.join(PRESETS)}")
    config = PRESETS[name](scale)
    if not isinstance(config, get_args(ModelConfig)):
        raise UserError(f"{name!r} is a model of images, expected one of videos")
    return config


def _usual_release(name: str, path: Path) -> str:
    release = {"tevit-r50": "tevit"}.get(name, name)
    if release not in SOURCES:
        expected = f"expected .safetensors, or --release with one of {', '.join(SOURCES)}"
        raise UserError(f"--checkpoint {path}: there is no release of {name!r}; {expected}")
    return release


def _usual_evaluation(config: ModelConfig, scale: Scale) -> EvalConfig:
    short_side, max_side = SIDES[scale]
    stream = StreamConfig() if isinstance(config, RefineVISConfig) else None
    return EvalConfig(DatasetConfig("unknown"), short_side=short_side, max_side=max_side, stream=stream)


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of the model by name, out of weights as well as out of the state of a training."""
    if not path.is_file():
        raise UserError(f"--checkpoint {path}: there is no such file")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"--checkpoint {path}: not a safetensors file ({error})") from None
    if state and all(name.startswith(TRAINING) for name in state):
        state = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _with_classes_of(config: ModelConfig, state: Mapping[str, Tensor]) -> ModelConfig:
    """The model with as many classes as these weights have: that is what its class head's bias differs in."""
    with torch.device("meta"):
        own = config.build().state_dict()
    for name, tensor in own.items():
        if tensor.dim() == 1 and name in state and state[name].dim() == 1 and len(state[name]) != len(tensor):
            return with_num_classes(config, max(1, config.num_classes + len(state[name]) - len(tensor)))
    return config


def _filled(config: ModelConfig, state: dict[str, Tensor], path: Path) -> nn.Module:
    if getattr(config, "mask_head", True) is None:
        raise UserError(f"--checkpoint {path}: its model predicts boxes only, expected one with a mask head")
    model = config.build()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"--checkpoint {path}: not the weights of this model and scale: {first}...") from None
    return model
