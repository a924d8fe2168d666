"""Hand-made tables: a metric is the mean of one number per video, which makes every interval easy to check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vislab.report.tables.frames import Evaluation, Evidence, ReportRow, ReportTable, Source

DIAL, CLEAN = "synthetic+faint=0.1", "synthetic"


@dataclass(frozen=True)
class MeanOfVideos:
    values: np.ndarray

    @property
    def video_ids(self) -> np.ndarray:
        return np.arange(len(self.values))

    def summaries(self, video_weights: np.ndarray | None, names: Sequence[str]) -> dict[str, np.ndarray]:
        weights = np.ones((1, len(self.values))) if video_weights is None else video_weights
        return {name: weights @ self.values / weights.sum(1) for name in names}


def evaluation(seed: int, values: np.ndarray, metrics: Sequence[str] = ("AP", "AP50"), **costs: float) -> Evaluation:
    source = MeanOfVideos(np.asarray(values, float))
    sources = {metric: Source(source, metric) for metric in metrics}
    return Evaluation(seed, f"train{seed}", f"eval{seed}", sources, costs)


def evidence_of(*means: float, spread: float = 0.1, seed: int = 0) -> Evidence:
    """One seed per mean; videos scatter by `spread` around it, in the same way for every row."""
    noise = np.random.default_rng(seed).normal(0, spread, 100)
    noise -= noise.mean()
    return Evidence(
        tuple(evaluation(i, mean + noise, train_minutes=2.0 + i, peak_memory_GiB=1.5) for i, mean in enumerate(means))
    )


def report_table(**changes: object) -> ReportTable:
    rows = (
        ReportRow(0, "Baseline", True, {"params_M": 49.3, "AP": 44.9, "AP50": None}, {"params_M": 49.306}),
        ReportRow(1, "Baseline & more_[x] <b>|$", True, {"params_M": 52.2, "AP": 46.4, "AP50": 68.7}, baseline=0),
        ReportRow(2, "Others", False, {"params_M": None, "AP": 30.3, "AP50": 51.1}),
    )
    fields = {"paper": "p", "id": "T3", "scale": "tiny", "columns": ("params_M", "AP", "AP50"), "rows": rows}
    return ReportTable(**(fields | {"datasets": (DIAL, CLEAN), "static": ("params_M",)} | changes))  # type: ignore[arg-type]
