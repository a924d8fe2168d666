"""From a trained model to predictions and metrics on disk."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vislab.data import VideoDataset
from vislab.engine.config import EvalConfig
from vislab.engine.device import peak_memory_bytes, reset_peak_memory
from vislab.engine.infer import predict_dataset
from vislab.engine.progress import Watcher
from vislab.metrics.inputs import GroundTruth, read_ground_truth, read_results
from vislab.metrics.video_ap import match_instances
from vislab.metrics.visibility import visibility_iou_instances
from vislab.records import atomic_path


def evaluate_model(
    model: nn.Module,
    dataset: VideoDataset,
    config: EvalConfig,
    *,
    folder: Path,
    device: torch.device,
    watcher: Watcher,
) -> dict[str, Any]:
    """Predict every video of `dataset` and measure all that its ground truth allows.

    Writes predictions.json and matches.npz to `folder`, and visibility.npz where objects have opacities. Returns
    metrics (fractions; None where undefined), visibility_iou (the same by group of frames, or None), n_videos,
    eval_seconds, infer_seconds, peak_memory_bytes. Raises UserError if the data set has no usable labels.
    """
    truth = read_ground_truth(dataset.ground_truth(), dataset.name)
    reset_peak_memory(device)
    started = time.perf_counter()
    predictions = predict_dataset(model, dataset, config, device, watcher)
    inferred = time.perf_counter()
    with atomic_path(folder / "predictions.json") as temporary:
        temporary.write_text(json.dumps(predictions), encoding="utf-8")
    found = measure(truth, predictions, folder)
    return found | {
        "n_videos": len(dataset),
        "eval_seconds": time.perf_counter() - started,
        "infer_seconds": inferred - started,
        "peak_memory_bytes": peak_memory_bytes(device),
    }


def measure(truth: GroundTruth, predictions: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The metrics of predictions; what resampling them needs goes to `folder`."""
    detections = read_results(predictions, truth)
    matches = match_instances(truth, detections)
    with atomic_path(folder / "matches.npz") as temporary, temporary.open("wb") as file:
        matches.save(file)
    if not all("opacities" in instance.record for instance in truth.instances):
        return {"metrics": _defined(matches.summary()), "visibility_iou": None}
    visibility = visibility_iou_instances(truth, detections)
    with atomic_path(folder / "visibility.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            video_ids=visibility.video_ids,
            iou_sums=visibility.iou_sums,
            frame_counts=visibility.frame_counts,
        )
    means = {group: float(values[0]) for group, values in visibility.summaries().items()}
    return {"metrics": _defined(matches.summary()), "visibility_iou": _defined(means)}


def _defined(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
