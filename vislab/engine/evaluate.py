"""From a trained model to predictions and metrics on disk."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from vislab.data import VideoDataset, load_dataset
from vislab.engine.config import EvalConfig
from vislab.engine.device import peak_memory_bytes, reset_peak_memory
from vislab.engine.infer import predict_dataset
from vislab.engine.predicted_videos import Beginning, PredictedVideo, PredictedVideos, made_from
from vislab.engine.progress import Watcher
from vislab.engine.team import current_team
from vislab.errors import UserError
from vislab.metrics.frame_overlap import DEFAULT_RULES
from vislab.metrics.hota import HotaCounts, hota_instances
from vislab.metrics.inputs import GroundTruth, load_json, read_ground_truth, read_results
from vislab.metrics.mot import MotCounts, mot_instances
from vislab.metrics.video_ap import AREAS, match_instances
from vislab.metrics.visibility import visibility_iou_instances
from vislab.records import atomic_path, read_json

_TRACKING: dict[str, Callable[..., MotCounts | HotaCounts]] = {"mot": mot_instances, "hota": hota_instances}


@dataclass(frozen=True)
class Untracked:
    """A finished evaluation whose identities over time have not been measured.

    folder: where its predictions.json and result.json lie. families: what is wanted, "mot" and "hota".
    """

    config: EvalConfig
    folder: Path
    families: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's place in its run store."""
        return "/".join(self.folder.parts[-3:])


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

    Every process of a team calls this and predicts its share of the videos; the first one measures and writes, the
    others return nothing. If it was cut off before, videos that were predicted then, from the same weights and data by
    the same code, are not predicted again. Writes predictions.json and matches.npz to `folder`, and visibility.npz
    where objects have opacities. Returns metrics (fractions; None where undefined), visibility_iou (the same by group
    of frames, or None), n_videos, n_frames, eval_seconds, infer_seconds (of which read_seconds passed until the frames
    were there; both of all videos together), peak_memory_bytes (of the largest process). Raises UserError if the data
    set has no usable labels.
    """
    team = current_team()
    truth = read_ground_truth(dataset.ground_truth(), dataset.name)
    reset_peak_memory(device)
    started = time.perf_counter()
    predicted = PredictedVideos(folder, made_from(model, dataset) if team.leads else {})
    beginning = _predict(model, dataset, config, predicted, device, watcher)
    if not team.leads:
        return {}
    videos = predicted.read()
    predictions = [result for video in videos for result in video.results]
    with atomic_path(folder / "predictions.json") as temporary:
        temporary.write_text(json.dumps(predictions), encoding="utf-8")
    found = measure(truth, predictions, folder)
    predicted.delete()
    return found | {
        "n_videos": len(dataset),
        "n_frames": sum(dataset.info(index).length for index in range(len(dataset))),
        "eval_seconds": beginning.seconds + time.perf_counter() - started,
        "infer_seconds": sum(video.seconds for video in videos),
        "read_seconds": sum(video.read_seconds for video in videos),
        "peak_memory_bytes": max([*(video.peak_memory_bytes for video in videos), peak_memory_bytes(device)]),
    }


def _predict(
    model: nn.Module,
    dataset: VideoDataset,
    config: EvalConfig,
    predicted: PredictedVideos,
    device: torch.device,
    watcher: Watcher,
) -> Beginning:
    """Predict this process's share of the videos that are not predicted yet; at the end all of them are."""
    team = current_team()
    beginning, source = team.agree(lambda: (predicted.begin(), predicted.source))
    left = [index for index in range(len(dataset)) if index not in beginning.done]
    share = shared_videos([dataset.info(index).length for index in left], team.rank, team.size)
    timed = TimedReads(dataset)
    before = time.perf_counter()
    videos = predict_dataset(
        model, cast(VideoDataset, timed), config, device, watcher, [left[place] for place in share], beginning.done
    )
    with replace(predicted, source=source).writer(beginning, team.rank) as add:
        for index, results in videos:
            now = time.perf_counter()
            add(PredictedVideo(index, results, now - before, timed.seconds, peak_memory_bytes(device)))
            before, timed.seconds = now, 0.0
    team.wait()
    return beginning


def shared_videos(lengths: Sequence[int], rank: int, processes: int) -> list[int]:
    """Which videos one of several processes predicts, ascending: each in turn, longest first, goes to the one that has
    the fewest frames so far. Every video goes to exactly one."""
    frames, owner = [0] * processes, [0] * len(lengths)
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        owner[index] = frames.index(min(frames))
        frames[owner[index]] += max(1, lengths[index])
    return [index for index in range(len(lengths)) if owner[index] == rank]


class TimedReads:
    """A data set that knows how long it took to read, or to draw, the frames asked for: `seconds`, all together."""

    def __init__(self, dataset: VideoDataset) -> None:
        self._dataset, self.seconds = dataset, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        started = time.perf_counter()
        frames = self._dataset.frames(index, frame_indices)
        self.seconds += time.perf_counter() - started
        return frames


def measure(truth: GroundTruth, predictions: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The metrics of predictions; what resampling them needs goes to `folder`. Stills have COCO's sizes of objects."""
    detections = read_results(predictions, truth)
    stills = all(video.length == 1 for video in truth.videos.values())
    matches = match_instances(truth, detections, (AREAS["image" if stills else "video"],))
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


def add_tracking(evaluations: Sequence[Untracked], watcher: Watcher) -> dict[Path, str]:
    """MOT consistency and HOTA of evaluations that are finished, from their predictions and the data they are about.

    Writes the counts by video to mot.npz and hota.npz in each folder; nothing is trained or predicted again. Ground
    truth is made once per data set. Returns for each folder that cannot be measured why, without the store's own path.
    """
    refused: dict[Path, str] = {}
    by_data = defaultdict(list)
    for evaluation in evaluations:
        by_data[evaluation.config.data, evaluation.config.split].append(evaluation)
    done = 0
    for (data, split), members in by_data.items():
        watcher.update("tracking", done, len(evaluations))
        dataset = load_dataset(data, split)
        refused |= {member.folder: reason for member in members if (reason := _unusable(member, dataset))}
        usable = [member for member in members if member.folder not in refused]
        truth = read_ground_truth(dataset.ground_truth(), dataset.name) if usable else None
        done += len(members) - len(usable)
        watcher.update("tracking", done, len(evaluations))
        for evaluation in usable:
            assert truth is not None
            try:
                _track(truth, evaluation)
            except UserError as error:
                refused[evaluation.folder] = str(error).replace(str(evaluation.folder), evaluation.name)
            done += 1
            watcher.update("tracking", done, len(evaluations))
    return refused


def _unusable(evaluation: Untracked, dataset: VideoDataset) -> str | None:
    """Why identities cannot be measured any more, if so."""
    if not (evaluation.folder / "predictions.json").exists():
        return f"{evaluation.name}/predictions.json is gone; without result.json beside it, the run is evaluated anew"
    measured_on = read_json(evaluation.folder / "result.json")["data_fingerprint"]
    if measured_on != dataset.fingerprint():
        return (
            f"{evaluation.name} was measured on data with fingerprint {measured_on}, but {dataset.name} now has "
            f"{dataset.fingerprint()}"
        )
    return None


def _track(truth: GroundTruth, evaluation: Untracked) -> None:
    path = evaluation.folder / "predictions.json"
    detections = read_results(load_json(path), truth, str(path))
    for family in evaluation.families:
        counts = _TRACKING[family](truth, detections)
        arrays = {field.name: getattr(counts, field.name) for field in fields(counts)}
        with atomic_path(evaluation.folder / f"{family}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **DEFAULT_RULES, **arrays)


def _defined(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
