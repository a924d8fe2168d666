"""What a configuration costs, counted without a run: no weight gets any memory."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from vislab.engine.config import EvalConfig
from vislab.models.counts import parameter_counts
from vislab.models.flops import Flops, count_flops
from vislab.models.presets import ModelConfig
from vislab.structures import ModelOutput

_MULTIPLE = 32  # of pixels; images are padded to it


@functools.cache
def million_parameters(model: ModelConfig) -> float:
    """Distinct ones, frozen ones included."""
    with torch.device("meta"):
        return parameter_counts(model.build())["unique"] / 1e6


def padded_size(evaluation: EvalConfig) -> tuple[int, int] | None:
    """Height and width of frames as a model gets them; None where their size is that of the files."""
    height = evaluation.short_side or evaluation.data.height
    width = evaluation.max_side or evaluation.data.width
    if height is None or width is None:
        return None
    return _MULTIPLE * -(-height // _MULTIPLE), _MULTIPLE * -(-width // _MULTIPLE)


def inference_flops(
    model: ModelConfig,
    clip_length: int,
    size: tuple[int, int] | None,
    use: Callable[[ModelOutput], object] = lambda output: None,
) -> Flops:
    """Of one clip. size: as `padded_size` gives it, not None. use: see `count_flops`."""
    assert size is not None, "the size of frames is that of the files"
    with torch.device("meta"):
        built = model.build().eval()
    return count_flops(built, clip_length, *size, use)
