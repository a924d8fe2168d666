"""The best and the worst videos of an evaluation as a part of an HTML page: frames, labels, predictions.

Shape letters: V videos, S evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from vislab.metrics.inputs import Instance, load_json, read_results
from vislab.metrics.matches import Matches
from vislab.report.runs.inline_figures import data_uri
from vislab.report.runs.labelled_videos import LabelledVideos
from vislab.report.runs.stored_runs import StoredRun
from vislab.report.videos.overlays import draw_overlays
from vislab.report.videos.show import Drawing
from vislab.report.videos.tracks import Track, predicted_tracks, true_tracks

_WIDTH = 240  # pixels of a panel
_FRAMES = 5
_DRAWING = Drawing()


@dataclass(frozen=True)
class Ranked:
    """A video and its AP on its own, a fraction: mean over evaluations."""

    video_id: int
    value: float
    best: bool


def best_and_worst(runs: Sequence[StoredRun], number: int) -> list[Ranked]:
    """So many of the best videos, best first, and of the worst, worst first, no video twice.

    By AP over the objects of the video alone; videos without objects have none. Of equal ones the first counts as
    better.
    """
    matches = [Matches.load(run.eval_folder / "matches.npz") for run in runs]
    alone = np.eye(len(matches[0].video_ids), dtype=np.int64)
    values = np.mean([each.summaries(alone, ["AP"])["AP"] for each in matches], 0)  # (S, V) -> (V,)
    order = [int(i) for i in np.argsort(-values, kind="stable") if not np.isnan(values[i])]
    ids = matches[0].video_ids
    best = order[: min(number, (len(order) + 1) // 2)]
    worst = [i for i in order[::-1] if i not in best][:number]
    return [Ranked(int(ids[i]), float(values[i]), i in best) for i in (*best, *worst)]


def video_figure(ranked: Ranked, videos: LabelledVideos, shown: Mapping[str, Sequence[Instance]]) -> str:
    """One video: a row of frames, below it the labels, and the predictions of each run. shown: label -> predictions."""
    index = videos.indices[ranked.video_id]
    info, truth = videos.dataset.info(index), videos.truth
    rows: list[tuple[str, list[Track]]] = [("image", []), ("ground truth", true_tracks(truth, info.id))]
    rows += [(label, predicted_tracks(truth, found, info.id, _DRAWING.min_score)) for label, found in shown.items()]
    frames = _DRAWING.frames(info.length, _FRAMES)
    cells = ["<span></span>", *(f"<span>frame {frame}</span>" for frame in frames)]
    pictures = dict(zip(frames, videos.dataset.frames(index, frames), strict=True))
    for label, tracks in rows:
        cells.append(f'<span class="row">{escape(label)}</span>')
        for frame, pixels in pictures.items():
            overlays = [overlay for track in tracks if (overlay := track.overlay(frame)) is not None]
            picture = draw_overlays(pixels, overlays, _WIDTH / info.width)
            cells.append(f'<img src="{data_uri(picture)}" alt="{escape(label)}, frame {frame}">')
    kind = "Among the best" if ranked.best else "Among the worst"
    caption = f"{kind}: video {info.name}, AP of this video alone {100 * ranked.value:.1f}"
    grid = f"grid-template-columns: minmax(4rem, 9rem) repeat({len(frames)}, minmax(0, 1fr))"
    body = "\n".join(cells)
    grid_part = f'<div class="frames" style="{grid}">\n{body}\n</div>'
    return f"<figure><figcaption>{escape(caption)}</figcaption>\n{grid_part}\n</figure>"


def predictions(run: StoredRun, videos: LabelledVideos) -> list[Instance]:
    """Raises UserError where they are gone."""
    path = run.eval_folder / "predictions.json"
    return read_results(load_json(path), videos.truth, str(path))
