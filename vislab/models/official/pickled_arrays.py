"""Model files of detectron2 (.pkl): a pickled dictionary of NumPy arrays, read without running code from it."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray, numeric
from torch import Tensor

from vislab.errors import UserError


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 hold bytes: a call of _codecs.encode with this encoding."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it refers to the encoding {encoding!r}")
    return text.encode("latin1")


# all that pickled arrays in a dictionary need; none of it reaches a file, a process or the network
_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1_bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): multiarray._reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): numeric._frombuffer for core in ("core", "_core")},  # type: ignore[attr-defined]
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return _ALLOWED[module, name]


def read_pickled_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays under "model", or of the dictionary itself, as tensors by name.

    Raises UserError if the file holds anything that is not a dictionary of numbers, or refers to other code.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read: {error.strerror}") from None
    except Exception as error:
        raise UserError(f"checkpoint {path} cannot be read without running code from it: {error}") from error
    arrays = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(arrays, dict) or not all(map(_holds_numbers, arrays.values())):
        raise UserError(
            f"checkpoint {path} holds no state dict, expected arrays of numbers by name, perhaps under 'model'"
        )
    return {str(name): torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _holds_numbers(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
