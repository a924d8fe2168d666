"""What of a table's runs is drawn: those of one seed, the videos that they share, one video of these."""

from __future__ import annotations

from collections.abc import Sequence

from vislab.data.excerpt import find_videos
from vislab.errors import UserError
from vislab.report.runs.labelled_videos import LabelledVideos, labelled_videos
from vislab.report.runs.stored_runs import Group, StoredRun

__all__ = ["one_video", "run_of_seed", "shared_videos"]


def run_of_seed(group: Group, seed: int) -> StoredRun:
    """Raises UserError where there is none."""
    for run in group.runs:
        if run.seed == seed:
            return run
    seeds = ", ".join(str(run.seed) for run in group.runs)
    raise UserError(f"row {group.label} on {group.dataset}: no run with seed {seed}; its seeds are {seeds}")


def shared_videos(runs: Sequence[StoredRun]) -> LabelledVideos:
    """What all these evaluations were made on. Raises UserError if they differ, or the data is not there any more."""
    for run in runs:
        if (run.result or {}).get("data_fingerprint") != (runs[0].result or {}).get("data_fingerprint"):
            raise UserError(f"runs {runs[0].train_key} and {run.train_key} were evaluated on different {run.dataset}")
    return labelled_videos(runs[0])


def one_video(videos: LabelledVideos, wanted: str) -> int:
    """Position of a video that is named or counted. Raises UserError for none, and for several."""
    found = find_videos(videos.dataset, wanted)
    if len(found) != 1:
        raise UserError(f"--video {wanted} names {len(found)} videos, expected one")
    return found[0]
