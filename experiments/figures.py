"""What a figure of a paper is made from, and what it is: shared by the papers' figure files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from vislab.data import VideoDataset
from vislab.data.collate import video_batch
from vislab.engine.config import RunConfig
from vislab.errors import UserError
from vislab.records import RunStore
from vislab.structures import Batch


@dataclass(frozen=True)
class Setting:
    """A trained model and the video to draw it on.

    run: the configuration that `model`, in evaluation mode, was built from. video: position in `dataset`. first_frame:
    of the clip that is drawn. video_named: whether the user asked for this video, so that no other one will do. store:
    where the run's evaluations are; None if the weights come from elsewhere. other: the model that `model` is compared
    with (`PaperFigure.against`).
    """

    model: nn.Module
    run: RunConfig
    dataset: VideoDataset
    video: int = 0
    first_frame: int = 0
    device: torch.device = torch.device("cpu")
    video_named: bool = True
    store: RunStore | None = None
    other: nn.Module | None = None

    def clip(self, length: int) -> tuple[np.ndarray, Batch]:
        """(T, H, W, 3) uint8 frames in a row from the first one, and the model's input made of them.

        Raises UserError if the video has not so many.
        """
        info = self.dataset.info(self.video)
        if self.first_frame + length > info.length:
            raise UserError(
                f"video {info.name} of {self.dataset.name} has {info.length} frames, expected {length} from frame "
                f"{self.first_frame} on"
            )
        frames = self.dataset.frames(self.video, range(self.first_frame, self.first_frame + length))
        evaluation = self.run.evaluation
        return frames, video_batch(frames, evaluation.short_side, evaluation.max_side).to(self.device)


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a trained model on a video.

    caption: one line. draw: the figure as matplotlib's object. changes: dotted path -> value against the paper's base,
    of the finished run that is drawn. against: what that run has to change in to be the one it is compared with, of
    the same data and seed; None: it is compared with none. trained_on: data set of the runs, where the figure's claim
    needs another one than the paper's figures do.
    """

    caption: str
    draw: Callable[[Setting], Figure]
    changes: Mapping[str, Any] = field(default_factory=dict)
    against: Mapping[str, Any] | None = None
    trained_on: str | None = None

    def same_models(self, other: PaperFigure) -> bool:
        """Whether both are drawn from the same runs."""
        ours, theirs = ((each.changes, each.against, each.trained_on) for each in (self, other))
        return ours == theirs


@dataclass(frozen=True)
class TableFigure:
    """A figure of a table's measured numbers. table: its number. draw: from its report (`report.files.read_table`)."""

    caption: str
    table: str
    draw: Callable[[pd.DataFrame], Figure]
