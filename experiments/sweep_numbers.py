"""The numbers that a sweep can search for, and how they are had from a trial's finished runs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from costs import inference_flops, million_parameters, padded_size

from vislab.data import DatasetConfig, load_dataset
from vislab.engine.config import RunConfig
from vislab.errors import UserError
from vislab.losses.frame_predictions import ClipPredictions
from vislab.metrics.numbers import bounds
from vislab.metrics.statistics import bootstrap, mean_and_std
from vislab.models.presets import ModelConfig
from vislab.records import RunStore
from vislab.report.sweeps.sweep_frame import Quantity
from vislab.report.tables.evidence import gather
from vislab.report.tables.frames import TRACKING
from vislab.study.sweep_run import Measured

QUANTITIES = (
    Quantity("AP", "AP (%)", True),
    Quantity("IDF1", "IDF1 (%)", True),
    Quantity("HOTA", "HOTA (%)", True),
    Quantity("GFLOPs", "GFLOPs per frame", False),
    Quantity("params", "parameters (M)", False),
    Quantity("latency", "inference (ms per frame)", False),
    Quantity("memory", "peak memory (GiB)", False),
)
RESAMPLED = ("AP", "IDF1", "HOTA")  # over videos; the others are one number a run, or a configuration
_STATIC = ("GFLOPs", "params")  # had without a run
NOTES = {
    "GFLOPs": "GFLOPs: multiply-adds of inference for one frame of a long video, padded, with the masks of the kept "
    "queries and the products of attention; frames that overlapping clips see twice count twice.",
    "latency": "Inference: time per frame as it was run, masks included; other work on the machine slows it down.",
    "memory": "Peak memory: the larger of training and inference; on the CPU of the whole process.",
}


def quantities(names: Sequence[str]) -> tuple[Quantity, ...]:
    """Raises UserError for a name that is none."""
    known = {each.name.lower(): each for each in QUANTITIES}
    for name in names:
        if name.lower() not in known:
            names_known = ", ".join(each.name for each in QUANTITIES)
            raise UserError(f"--objectives: there is no {name!r}; expected any of {names_known}")
    return tuple(dict.fromkeys(known[name.lower()] for name in names))


def tracking_needed(objectives: Sequence[Quantity]) -> tuple[str, ...]:
    """Families of `TRACKING` that must be measured for them."""
    return tuple(family for family, names in TRACKING.items() if any(each.name in names for each in objectives))


def needs_runs(objectives: Sequence[Quantity]) -> bool:
    return any(each.name not in _STATIC for each in objectives)


def measurer(objectives: Sequence[Quantity], store: RunStore) -> Callable[[Sequence[RunConfig]], Measured]:
    """What measures a trial: its objectives, and whatever else costs nothing."""
    wanted = [each.name for each in objectives if each.name in RESAMPLED]
    runs_needed = needs_runs(objectives)

    def measure(runs: Sequence[RunConfig]) -> Measured:
        found: dict[str, Mapping[str, float | None]] = {}
        if runs_needed:
            found |= _resampled(runs, store, tuple(dict.fromkeys(["AP", *wanted])))
            found |= _of_runs(runs, store)
        else:
            found["params"] = _single(million_parameters(runs[0].model))
        found["GFLOPs"] = _single(gflops_per_frame(runs[0]))
        return found

    return measure


def gflops_per_frame(run: RunConfig) -> float | None:
    """Multiply-adds of inference, in units of 1e9; None where the frames' size is that of the files."""
    evaluation = run.evaluation
    size = padded_size(evaluation)
    if size is None:
        return None
    if evaluation.clips is None:
        length = step = evaluation.data.length or run.sampling.clip_length
    else:
        length, step = evaluation.clips.clip_length, evaluation.clips.clip_stride
    return _gflops(run.model, length, size, evaluation.top_k) / step


@functools.cache
def _gflops(model: ModelConfig, length: int, size: tuple[int, int], masks: int) -> float:
    def predict_kept(output: Any) -> None:
        if isinstance(output, ClipPredictions):  # frame by frame; refinement, a few millions, is not counted
            for frame in range(length):
                output.frames.masks(frame, torch.arange(min(masks, output.frames.logits.shape[1])))
        elif output.pred_masks is not None:
            output.pred_masks(0, torch.arange(min(masks, output.pred_logits.shape[1])))

    return inference_flops(model, length, size, predict_kept).total / 1e9


def _resampled(runs: Sequence[RunConfig], store: RunStore, names: Sequence[str]) -> Measured:
    """In percent: mean over seeds, their standard deviation, and the interval over seeds and videos, as in tables."""
    evaluations = gather(store, [(run.train_key, run.eval_key) for run in runs], names).evaluations
    if len(evaluations) < len(runs):
        raise UserError(f"the run store lacks {len(runs) - len(evaluations)} of the trial's {len(runs)} runs")
    found = {}
    for name in names:
        sources = [evaluation.sources[name] for evaluation in evaluations]
        estimate = bootstrap([each.resampled for each in sources], sources[0].statistic, bounds=bounds(name))
        parts = {"value": estimate.value, "std": estimate.std, "ci_low": estimate.ci_low, "ci_high": estimate.ci_high}
        found[name] = {part: _defined(100 * value) for part, value in parts.items()} | {"n": float(len(runs))}
    return found


def _of_runs(runs: Sequence[RunConfig], store: RunStore) -> Measured:
    results: list[dict[str, Any]] = [store.result(run.train_key, run.eval_key) or {} for run in runs]
    frames = _num_frames(runs[0].evaluation.data, runs[0].evaluation.split)
    return {
        "params": _mean([result["parameters"] / 1e6 for result in results]),
        "latency": _mean([1000 * result.get("infer_seconds", math.nan) / frames for result in results]),
        "memory": _mean([result["peak_memory_bytes"] / 2**30 for result in results]),
    }


@functools.cache
def _num_frames(data: DatasetConfig, split: Any) -> int:
    dataset = load_dataset(data, split)
    return sum(dataset.info(index).length for index in range(len(dataset)))


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    mean, std = mean_and_std(values)
    return _single(mean) | {"std": _defined(std), "n": float(len(values))}


def _single(value: float | None) -> dict[str, float | None]:
    return {"value": None if value is None else _defined(value), "std": None, "ci_low": None, "ci_high": None, "n": 1.0}


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
