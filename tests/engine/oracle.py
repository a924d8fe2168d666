"""A model that knows the labels of whatever clip it is shown, and the data set that shows them to it.

Shape letters: T frames, Q queries, K classes, H W padded image size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vislab.data import Category, FrameAnnotations, VideoDataset, VideoInfo
from vislab.data.collate import PIXEL_MEAN, PIXEL_STD
from vislab.structures import ModelOutput

SURE = 12.0  # logit; its negative is a probability of 6e-6


class Marked:
    """A data set whose frames say which they are: their first pixel holds the video and the frame."""

    def __init__(self, dataset: VideoDataset) -> None:
        self.dataset, self.name = dataset, dataset.name
        self.categories: tuple[Category, ...] = dataset.categories
        self.reads: list[tuple[int, tuple[int, ...]]] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def info(self, index: int) -> VideoInfo:
        return self.dataset.info(index)

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        self.reads.append((index, tuple(frame_indices)))
        info = self.info(index)
        frames = np.zeros((len(frame_indices), info.height, info.width, 3), np.uint8)
        frames[:, 0, 0, 0] = index
        frames[:, 0, 0, 1] = frame_indices
        return frames

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        return self.dataset.annotations(index, frame_indices)

    def ground_truth(self) -> dict[str, Any]:
        return self.dataset.ground_truth()

    def fingerprint(self) -> str:
        return self.dataset.fingerprint()


class Oracle(nn.Module):
    """Perfect predictions of a clip, its instances in random order among queries that see nothing.

    by_frame: logits of each frame, which say in which frames an instance is there; otherwise one for the clip.
    """

    mask_stride = 1

    def __init__(
        self, marked: Marked, *, by_frame: bool, clip_length: int | None = None, idle_queries: int = 2
    ) -> None:
        super().__init__()
        self.marked, self.by_frame, self.clip_length, self.idle_queries = marked, by_frame, clip_length, idle_queries
        self.rng = np.random.default_rng(0)

    def forward(self, images: Tensor, padding_mask: Tensor) -> ModelOutput:
        pixels = images[0, :, :, 0, 0] * torch.tensor(PIXEL_STD) + torch.tensor(PIXEL_MEAN)
        index, frames = int(pixels[0, 0].round()), pixels[:, 1].round().int().tolist()
        truth = self.marked.annotations(index, frames)
        count = len(truth.labels) + self.idle_queries
        query = self.rng.permutation(count)[: len(truth.labels)]
        logits = torch.full((1, count, len(frames), len(self.marked.categories)), -SURE)
        logits[0, query, :, truth.labels] = torch.from_numpy(np.where(truth.present, SURE, -SURE)).float()
        masks = torch.full((count, len(frames), *images.shape[-2:]), -SURE)
        height, width = truth.masks.shape[-2:]
        masks[query, :, :height, :width] = torch.from_numpy(truth.masks).float() * 2 * SURE - SURE
        boxes = torch.zeros(1, count, len(frames), 4)
        pred_logits = logits if self.by_frame else logits.amax(2)
        return ModelOutput(pred_logits, boxes, lambda b, q: masks[q])
