"""HOTA, CLEAR and identity by TrackEval, run as its own script for YouTube-VIS runs it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np

from vislab import rle
from vislab.metrics.inputs import load_json

EVALUATOR = {
    "USE_PARALLEL": False, "BREAK_ON_ERROR": True, "LOG_ON_ERROR": None, "PRINT_RESULTS": False, "PRINT_CONFIG": False,
    "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False, "PLOT_CURVES": False,
}  # fmt: skip


def prepare(folder: Path, ground_truth: Path, results: Path) -> None:
    """Lay out its folders. Its reader of ground truth takes uncompressed counts only, as YouTube-VIS gives them."""
    truth = load_json(ground_truth)
    for annotation in truth["annotations"]:
        annotation["segmentations"] = [
            None if mask is None else {"size": mask["size"], "counts": rle.runs(mask).tolist()}
            for mask in annotation["segmentations"]
        ]
    for path in (folder / "gt" / "youtube_vis_made", folder / "found" / "youtube_vis_made" / "model" / "data"):
        path.mkdir(parents=True)
    (folder / "gt" / "youtube_vis_made" / "truth.json").write_text(json.dumps(truth))
    shutil.copy(results, folder / "found" / "youtube_vis_made" / "model" / "data" / "results.json")


def evaluate(folder: Path) -> dict[str, float]:
    """The measures by the names of `vislab.evaluate`: categories apart, summed up over their detections."""
    import trackeval

    settings = {"PRINT_CONFIG": False, "SPLIT_TO_EVAL": "made"}
    folders = {"GT_FOLDER": f"{folder / 'gt'}/", "TRACKERS_FOLDER": f"{folder / 'found'}/"}
    metrics = [trackeval.metrics.HOTA()]
    metrics += [kind({"PRINT_CONFIG": False}) for kind in (trackeval.metrics.CLEAR, trackeval.metrics.Identity)]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.YouTubeVIS(settings | folders)
        found, _ = trackeval.Evaluator(dict(EVALUATOR)).evaluate([dataset], metrics)
    pooled = found["YouTubeVIS"]["model"]["COMBINED_SEQ"]["cls_comb_det_av"]
    numbers = {name: float(np.mean(pooled["HOTA"][name])) for name in ("HOTA", "DetA", "AssA", "LocA")}
    return numbers | {f"mask {name}": float(pooled["Identity"][name]) for name in ("IDF1", "IDP", "IDR")}
