"""Reading a released checkpoint and putting it into a model, strictly and without running code from the file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vislab.errors import UserError
from vislab.models.official.pickled_arrays import read_pickled_arrays

State = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def rename(released: str, rules: list[Rule]) -> str | None:
    """Name here of a released entry: pattern at its beginning -> replacement; the first rule that matches is used."""
    for pattern, replacement in rules:
        renamed, count = re.subn("^" + pattern, replacement, released)
        if count:
            return renamed
    return None


def convert(released: State, name_of: Callable[[str], str | None]) -> State:
    """Renames entries (None drops one); an entry stored twice must be equal in both places."""
    state: State = {}
    for name, tensor in released.items():
        ours = name_of(name)
        if ours is None:
            continue
        if ours in state and not torch.equal(state[ours], tensor):
            raise UserError(f"state dict entry {name!r} should be the same tensor as another entry of {ours!r}")
        state[ours] = tensor
    return state


def read_state(path: Path) -> State:
    """safetensors, a torch file opened without unpickling objects, or detectron2's .pkl; containers are unwrapped."""
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    if path.suffix == ".pkl":
        return read_pickled_arrays(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # the release's training script stores its arguments beside the weights; a Namespace runs no code
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"checkpoint {path} cannot be read without running code from it: {error}") from error
    for container in ("model", "state_dict"):
        if isinstance(state, dict):
            state = state.get(container, state)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"checkpoint {path} holds no state dict, expected tensors by name, perhaps under 'model'")
    return state


def load_strictly(model: nn.Module, state: State, path: Path) -> None:
    """Loads renamed entries; nothing may be missing, left over or of another shape."""
    own = model.state_dict()
    for name in own:
        if name not in state:
            raise UserError(f"checkpoint {path} has no entry for {name!r}")
    for name, tensor in state.items():
        if name not in own:
            raise UserError(f"checkpoint {path} has an entry for {name!r}, which the model does not have")
        if tensor.shape != own[name].shape:
            found, expected = tuple(tensor.shape), tuple(own[name].shape)
            raise UserError(f"checkpoint {path}: {name!r} has shape {found}, expected {expected}")
    model.load_state_dict(state)
