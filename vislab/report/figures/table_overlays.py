"""What the rows of a table find in one video, below its ground truth: frames with masks in the colours of identities.

Shape letters: V videos, S runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure

from vislab.data.excerpt import excerpt
from vislab.errors import UserError
from vislab.metrics.best_tracks import best_tracks, distinct_tracks
from vislab.metrics.inputs import GroundTruth, Instance, load_json, read_ground_truth, read_results
from vislab.metrics.matches import Matches
from vislab.report.figures.track_strips import Strip, StripRow, draw_strips, identity_tracks
from vislab.report.runs.chosen_runs import one_video, run_of_seed, shared_videos
from vislab.report.runs.labelled_videos import LabelledVideos
from vislab.report.runs.stored_runs import Group, StoredRun
from vislab.report.videos.show import Drawing
from vislab.report.videos.tracks import true_tracks

__all__ = ["draw_table_overlays"]

_FRAMES = 6


@dataclass(frozen=True)
class _Row:
    """A row of the table. names: of all rows that this evaluation stands in."""

    names: list[str]
    run: StoredRun

    @property
    def label(self) -> str:
        return self.names[0] if len(self.names) == 1 else f"{self.names[0]}, and {len(self.names) - 1} more"

    @cached_property
    def matches(self) -> Matches:
        return Matches.load(self.run.eval_folder / "matches.npz")

    @cached_property
    def alone(self) -> np.ndarray:
        """(V,) AP of each video on its own, a fraction, in the order of `matches`; NaN without objects."""
        return self.matches.summaries(np.eye(len(self.matches.video_ids), dtype=np.int64), ["AP"])["AP"]


def draw_table_overlays(
    groups: Sequence[Group], seed: int = 0, video: str | None = None, min_score: float | None = None
) -> Figure:
    """Six frames from the first to the last, a line of them for each row, below one for the ground truth.

    Args:
        groups: rows of a table, measured on the same data; those that share an evaluation are drawn once.
        video: name or position in the data set. None: the one of median quality, which is the AP of a video on its
            own, mean over the rows; of an even number the lower.
        min_score: least score of a track. None: of each row as many of its best tracks as the video has labelled
            objects (`metrics.best_tracks`).

    Raises:
        UserError: no such seed or video, or data or predictions that are gone or differ from row to row.
    """
    if min_score is not None and not 0 <= min_score <= 1:
        raise UserError(f"--min-score is {min_score:g}, expected a number from 0 to 1")
    rows = _rows(groups, seed)
    videos = shared_videos([row.run for row in rows])
    index, reason = (_median(rows, videos), " (median AP)") if video is None else (one_video(videos, video), "")
    info = videos.dataset.info(index)
    truth = read_ground_truth(excerpt(videos.dataset, [index]), videos.dataset.name)
    numbers = Drawing().frames(info.length, _FRAMES)
    title = f"ground truth: video {info.name} of {groups[0].dataset}{reason}; models of seed {seed}"
    lines = [StripRow(title, true_tracks(truth, info.id)), *(_line(row, truth, info.id, min_score) for row in rows)]
    return draw_strips([Strip(videos.dataset.frames(index, numbers), numbers, lines)])


def _rows(groups: Sequence[Group], seed: int) -> list[_Row]:
    """Each evaluation once, with the labels of all groups that it belongs to."""
    rows: dict[tuple[str, str], _Row] = {}
    for group in groups:
        run = run_of_seed(group, seed)
        rows.setdefault((run.train_key, run.eval_key), _Row([], run)).names.append(group.label)
    return list(rows.values())


def _median(rows: Sequence[_Row], videos: LabelledVideos) -> int:
    """Position of the video of median quality."""
    values = np.mean([row.alone for row in rows], axis=0)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        raise UserError(f"{videos.dataset.name}: no video has labelled objects; name one with --video")
    ranked = known[np.argsort(values[known], kind="stable")]
    return videos.indices[int(rows[0].matches.video_ids[ranked[(len(ranked) - 1) // 2]])]


def _line(row: _Row, truth: GroundTruth, video_id: int, min_score: float | None) -> StripRow:
    path = row.run.eval_folder / "predictions.json"
    results = [found for found in read_results(load_json(path), truth, str(path)) if found.video_id == video_id]
    if min_score is None:
        found = best_tracks(truth, results)
        rule = _best(found)
    else:
        found = [each for each in distinct_tracks(results) if each.score >= min_score]
        rule = f"{len(found)} tracks, scores from {min_score:g}"
    here = row.alone[np.searchsorted(row.matches.video_ids, video_id)]
    quality = "no AP in this video" if np.isnan(here) else f"AP {100 * here:.1f} in this video"
    overall = 100 * float(row.matches.summaries(None, ["AP"])["AP"][0])
    return StripRow(f"{row.label}: {quality}, {overall:.1f} in all; {rule}", identity_tracks(truth, found, video_id))


def _best(found: Sequence[Instance]) -> str:
    """found: by falling score."""
    if len(found) < 2:
        return f"its best track, score {found[0].score:.2f}" if found else "no track"
    return f"its {len(found)} best tracks, scores {found[-1].score:.2f} to {found[0].score:.2f}"
