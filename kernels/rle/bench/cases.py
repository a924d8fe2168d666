"""Who computes the same numbers as the evaluation here, and how much they may differ."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vislab.metrics import evaluate, match
from vislab.metrics.inputs import load_json

from . import by_trackeval
from .made import Files
from .plain_ap import plain_ap
from .plain_mot import plain_mot

Numbers = dict[str, float]
AP, TRACKING, MOT = "ap", "tracking", "mot"
NAMES = (AP, TRACKING, MOT)
_THRESHOLD = 0.3  # of the scores that "mot" looks at


@dataclass(frozen=True)
class Case:
    """Each competitor reads both files and returns the same numbers, but for rounding; others of its own are extra."""

    name: str
    reference: str
    competitors: Mapping[str, Callable[[], Numbers]]
    tolerance: float


def make_case(name: str, files: Files, folder: Path) -> Case | str:
    """The case, or why it cannot be run here."""
    if name == AP:
        competitors = {
            "pycocotools, as published": partial(plain_ap, *files),
            "vislab, the same 12 numbers": partial(own_ap, files),
            "vislab evaluate, and subsets": partial(own, files, ("ap",)),
        }
        return Case(name, "pycocotools, as published", competitors, 1e-12)
    if name == MOT:
        competitors = {
            "motmetrics": partial(plain_mot, *files, _THRESHOLD),
            "vislab evaluate, and on masks": partial(own, files, ("mot",), score_threshold=_THRESHOLD),
        }
        return Case(name, "motmetrics", competitors, 1e-12)
    if importlib.util.find_spec("trackeval") is None:
        return "TrackEval is not installed (pip install --no-deps trackeval==1.3.0)"
    by_trackeval.prepare(folder, *files)
    options = {"score_threshold": 0.0, "class_agnostic": False}
    competitors = {
        "TrackEval": partial(by_trackeval.evaluate, folder),
        "vislab evaluate, and on boxes": partial(own, files, ("mot", "hota"), **options),
    }
    return Case(name, "TrackEval", competitors, 1e-9)


def own_ap(files: Files) -> Numbers:
    return match(*map(load_json, files)).summary()


def own(files: Files, metrics: tuple[str, ...], **options: float | bool) -> Numbers:
    frame = evaluate(*files, metrics, replicates=0, **options)  # type: ignore[arg-type]
    return frame[frame["scope"] == "all"].set_index("metric")["value"].to_dict()
