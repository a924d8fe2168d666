"""What the run store knows of a row: finished evaluations, ready to be resampled, numbers of whole runs, failures."""

from __future__ import annotations

import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vislab.metrics.frame_overlap import DEFAULT_RULES
from vislab.metrics.hota import HotaCounts
from vislab.metrics.matches import STATISTICS, Matches
from vislab.metrics.mot import MotCounts
from vislab.metrics.statistics import Resampled, mean_and_std
from vislab.metrics.visibility import GROUPS, VisibilityIoU
from vislab.records import RunStore, atomic_path, read_json
from vislab.report.tables.frames import DECIMALS, TRACKING, Evaluation, Evidence, Source

FAILURE = "failure.json"
RUN_NUMBERS = ("training_gpu_hours", "FPS")  # metrics that are one number a run, not resampled over videos
VISIBILITY = dict(zip(("IoU_evident", "IoU_faint_near", "IoU_faint_alone"), GROUPS, strict=True))


@dataclass
class Remembered:
    """An evaluation whose statistics are kept in a file beside it, since its bootstrap replicates take a second each.

    load: reads the evaluation; not called where everything is known. origin: a file of the evaluation; statistics that
    are older than it do not count. path: where they lie. batch: statistics that are computed together.
    """

    load: Callable[[], Resampled]
    origin: Path
    path: Path
    batch: Sequence[str]

    @functools.cached_property
    def source(self) -> Resampled:
        return self.load()

    @functools.cached_property
    def video_ids(self) -> np.ndarray:
        known = self._known.get("video_ids")
        return self.source.video_ids if known is None else known

    def summaries(self, video_weights: np.ndarray | None, names: Sequence[str]) -> dict[str, np.ndarray]:
        """As the evaluation's own; see `Resampled`."""
        draws = "once" if video_weights is None else _digest(video_weights)
        if any(f"{draws} {name}" not in self._known for name in names):
            batch = tuple(dict.fromkeys([*names, *self.batch]))
            found = self.source.summaries(video_weights, batch)
            self._known.update({f"{draws} {name}": found[name] for name in batch}, video_ids=self.source.video_ids)
            with atomic_path(self.path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **self._known)
        return {name: self._known[f"{draws} {name}"] for name in names}

    @functools.cached_property
    def _known(self) -> dict[str, np.ndarray]:
        if not self.path.exists() or self.path.stat().st_mtime_ns < self.origin.stat().st_mtime_ns:
            return {}
        with np.load(self.path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


_digested: list[tuple[np.ndarray, str]] = []  # the array that was last asked about, for it is asked about many times


def _digest(video_weights: np.ndarray) -> str:
    if not _digested or _digested[0][0] is not video_weights or video_weights.flags.writeable:
        name = hashlib.sha256(np.ascontiguousarray(video_weights).tobytes()).hexdigest()[:16]
        _digested[:] = [(video_weights, name)]
    return _digested[0][1]


def gather(store: RunStore, keys: Iterable[tuple[str, str]], metrics: Sequence[str]) -> Evidence:
    """What is known of one row on one data set.

    keys: (train_key, eval_key) of every seed. metrics: those that the table shows. A result counts even where an
    earlier attempt failed.
    """
    evaluations: list[Evaluation] = []
    failures: list[str] = []
    for train_key, eval_key in keys:
        folder = store.eval_dir(train_key, eval_key)
        result = store.result(train_key, eval_key)
        if result is not None:
            evaluations.append(_evaluation(result, folder, metrics))
        else:
            failures += noted_failures([folder])
    return Evidence(tuple(evaluations), tuple(failures))


def noted_failures(folders: Iterable[Path]) -> list[str]:
    """The sentences of what failed in these folders of evaluations."""
    return [str(read_json(folder / FAILURE)["error"]) for folder in folders if (folder / FAILURE).exists()]


def _evaluation(result: dict[str, Any], folder: Path, metrics: Sequence[str]) -> Evaluation:
    wanted = [metric for metric in metrics if metric in STATISTICS]
    path = folder / "matches.npz"
    matches = Remembered(functools.partial(Matches.load, path), path, folder / "bootstrap.npz", wanted)
    sources = {metric: Source(matches, metric) for metric in dict.fromkeys(["AP", *wanted])}
    if (folder / "visibility.npz").exists():
        visibility = _read_visibility(folder / "visibility.npz")
        sources |= {metric: Source(visibility, VISIBILITY[metric]) for metric in metrics if metric in VISIBILITY}
    for family, names in TRACKING.items():
        shown = [metric for metric in metrics if metric in names]
        counts = tracking_counts(folder, family) if shown else None
        if counts is not None:
            sources |= {metric: Source(counts, metric) for metric in shown}
    return Evaluation(result["seed"], result["train_key"], result["eval_key"], sources, _costs(result))


def tracking_counts(folder: Path, family: str) -> MotCounts | HotaCounts | None:
    """What `engine.evaluate.add_tracking` left in an evaluation's folder; None if it did not, or by other rules.

    family: of `TRACKING`.
    """
    kind = MotCounts if family == "mot" else HotaCounts
    names = [field.name for field in fields(kind)]
    path = folder / f"{family}.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        rules = {name: stored[name].tolist() for name in stored.files if name not in names}
        if rules != DEFAULT_RULES or not {*names} <= {*stored.files}:
            return None
        return kind(**{name: stored[name] for name in names})


def _read_visibility(path: Path) -> VisibilityIoU:
    with np.load(path, allow_pickle=False) as stored:
        return VisibilityIoU(stored["video_ids"], stored["iou_sums"], stored["frame_counts"])


def _costs(result: dict[str, Any]) -> dict[str, float]:
    seconds = result.get("train_seconds", math.nan)
    return {
        "train_minutes": seconds / 60,
        "eval_minutes": result.get("eval_seconds", math.nan) / 60,
        "peak_memory_GiB": result.get("peak_memory_bytes", math.nan) / 2**30,
        "training_gpu_hours": seconds / 3600,
        **_speed(result),
    }


def _speed(result: Mapping[str, Any]) -> dict[str, float]:
    """Frames per second of inference without reading them; evaluations of earlier versions did not note it."""
    if "read_seconds" not in result:
        return {}
    return {"FPS": result["n_frames"] / (result["infer_seconds"] - result["read_seconds"])}


def joined(parts: Sequence[tuple[Evidence, Mapping[str, str]]]) -> Evidence:
    """What several evaluations of each seed know of one row: every part fills some columns, column -> metric there.

    A seed counts once all of its evaluations are there. Keys of a cell are those of the evaluation that fills it.
    """
    by_seed: dict[int, list[tuple[Evaluation, Mapping[str, str]]]] = defaultdict(list)
    for known, columns in parts:
        for evaluation in known.evaluations:
            by_seed[evaluation.seed].append((evaluation, columns))
    complete = [found for _, found in sorted(by_seed.items()) if len(found) == len(parts)]
    failures = tuple(dict.fromkeys(failure for known, _ in parts for failure in known.failures))
    return Evidence(tuple(_merged(found) for found in complete), failures)


def _merged(parts: Sequence[tuple[Evaluation, Mapping[str, str]]]) -> Evaluation:
    """One seed's evaluations as one; costs are the first one's."""
    sources, costs = {}, dict(parts[0][0].costs)
    for evaluation, columns in parts:
        for column, metric in columns.items():
            if metric in evaluation.sources:
                sources[column] = replace(evaluation.sources[metric], eval_key=evaluation.eval_key)
            elif metric in evaluation.costs:
                costs[column] = evaluation.costs[metric]
    return replace(parts[0][0], sources=sources, costs=costs)


def fill_run_numbers(
    frame: pd.DataFrame, evidence: Mapping[tuple[int, str], Evidence], columns: Iterable[str] = RUN_NUMBERS
) -> pd.DataFrame:
    """The frame of a table (`frames.table_frame`) with the measured cells of such columns: mean and standard deviation
    over the seeds, no interval, since there is nothing to resample. evidence: as the frame was made from."""
    filled = frame.copy()
    for index, line in frame[frame["metric"].isin(list(columns)) & (frame["status"] == "measured")].iterrows():
        runs = evidence[line["row"], line["dataset"]].evaluations
        mean, std = mean_and_std([run.costs.get(line["metric"], math.nan) for run in runs])
        cells = {
            "measured": round(mean, DECIMALS),
            "std": round(std, DECIMALS),
            "n": len(runs),
            "train_key": " ".join(run.train_key for run in runs),
            "eval_key": " ".join(run.eval_key for run in runs),
        }
        filled.loc[index, list(cells)] = list(cells.values())
    return filled


def run_devices(store: RunStore, keys: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """What finished runs ran on, each once: "NVIDIA A100", "cpu, 1 thread"."""
    found = set()
    for train_key, eval_key in keys:
        environment = (store.result(train_key, eval_key) or {}).get("env")
        if environment is not None:
            threads = environment["threads"]
            cores = f", {threads} thread{'s' if threads > 1 else ''}"
            found.add(environment["device"] + (cores if environment["device"] == "cpu" else ""))
    return tuple(sorted(found))
