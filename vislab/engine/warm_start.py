"""Start from the weights of another run, of a model that need not be quite the same."""

from __future__ import annotations

from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vislab.engine.config import InitialWeights, file_sha256
from vislab.errors import UserError


@dataclass(frozen=True)
class WarmStart:
    """What became of the weights, by name in the state dict.

    loaded: taken from the file. fresh: in the model, but not in the file with this shape; initialised as without it.
    dropped: in the file, but not in the model with this shape. What `InitialWeights.without` leaves out counts as not
    in the file.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]


def warm_start(model: nn.Module, init: InitialWeights) -> WarmStart:
    """Load every weight whose name and shape fit.

    A model with a method adapt_weights(state) -> state converts what it can beforehand, e.g. takes the feature levels
    that it has out of attention weights for more levels. Raises UserError if the file is not the one that `init`
    describes, is no safetensors file, or if nothing in it fits.
    """
    state = read_weights(init)
    for text in init.without:
        state = {name: value for name, value in state.items() if text not in name}
    adapt = getattr(model, "adapt_weights", None)
    if adapt is not None:
        state = adapt(state)
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise UserError(f"{init.path}: none of its {len(state)} tensors fits the model by name and shape")
    model.load_state_dict(fitting, strict=False)
    return WarmStart(
        loaded=tuple(sorted(fitting)),
        fresh=tuple(sorted(own.keys() - fitting.keys())),
        dropped=tuple(sorted(state.keys() - fitting.keys())),
    )


def read_weights(init: InitialWeights) -> dict[str, Tensor]:
    """The file's tensors on the CPU, after its content was found to be the expected one."""
    found = file_sha256(init.path)
    if found != init.sha256:
        raise UserError(f"{init.path}: its SHA-256 is {found}, expected {init.sha256}")
    try:
        return load_file(init.path)
    except SafetensorError as error:
        raise UserError(f"{init.path}: not a safetensors file ({error})") from None
