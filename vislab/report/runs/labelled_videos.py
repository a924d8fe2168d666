"""The videos that a finished run was evaluated on, with their labels: the same ones, or none."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vislab.config import from_dict
from vislab.data import DatasetConfig, VideoDataset, load_dataset
from vislab.errors import UserError
from vislab.metrics.inputs import GroundTruth, read_ground_truth
from vislab.report.runs.stored_runs import StoredRun


@dataclass(frozen=True)
class LabelledVideos:
    dataset: VideoDataset

    @functools.cached_property
    def truth(self) -> GroundTruth:
        return read_ground_truth(self.dataset.ground_truth(), self.dataset.name)

    @functools.cached_property
    def indices(self) -> dict[int, int]:
        """A video's id -> its position in the data set."""
        return {self.dataset.info(index).id: index for index in range(len(self.dataset))}


def labelled_videos(run: StoredRun) -> LabelledVideos:
    """Raises UserError where the data is not there any more, or is not what was evaluated."""
    assert run.result is not None
    evaluation = run.config["evaluation"]
    dataset = load_dataset(from_dict(DatasetConfig, evaluation["data"]), evaluation["split"])
    if dataset.fingerprint() != run.result["data_fingerprint"]:
        raise UserError(
            f"evaluated on data with fingerprint {run.result['data_fingerprint']}, but {dataset.name} now has "
            f"{dataset.fingerprint()}"
        )
    return LabelledVideos(dataset)
